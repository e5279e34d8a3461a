// The waiting line, fair among users. Pure.
//
// Each user has a line of its own, ordered by arrival, where one step of priority counts as having
// arrived `aging` earlier; all age alike, so nobody is overtaken there by requests that come later
// than that. Between users it is start-time fair queueing over tokens: a request's tag is the
// number of tokens that its user will have been given when it is its turn, and the smallest tag is
// next. A user who comes back after a rest starts at the tag that is being served, so nobody saves
// up turns.
//
// The bound on waiting that follows: before a request is served, every other user gets at most as
// many tokens as its own user got or waits for before it, plus one request, plus aging_tokens per
// step of priority that the other's requests have over it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "actors/moment.hpp"
#include "actors/ticket.hpp"

namespace quire {

class fair_queue {
 public:
  struct options {
    std::chrono::milliseconds aging{2000};  ///< head start of a priority step among a user's own
    double aging_tokens = 2000;             ///< and among users
  };
  /// A request that waits.
  struct entry {
    ticket_id ticket{};
    std::string user;
    int priority = 0;  ///< beyond +-1000 counts as that
    moment arrived;
    std::uint64_t tokens = 0;  ///< what serving it will give its user
    std::uint32_t pages = 0;   ///< what it waits for
    bool resumed = false;      ///< was served before and had to give its pages up
  };
  /// A place in the line.
  struct place {
    double tag = 0;
    moment counts_from;  ///< arrival, less the head start
    ticket_id ticket{};
    std::uint32_t pages = 0;
    bool operator<(const place& other) const;
  };

  explicit fair_queue(options chosen) : options_(chosen) {}

  /// Puts a request into its user's line. One that was served before comes before all that were
  /// not, and costs nothing again. O(requests behind it).
  void enqueue(entry added);
  /// Takes a request out without having served it; unknown ones are ignored. O(behind it).
  void leave(ticket_id ticket);
  /// Takes a request out because it is served: its user has now been given its tokens.
  void serve(ticket_id ticket);
  /// A user was given more than was reckoned, or, if negative, less.
  void charge(const std::string& user, double tokens);

  bool waits(ticket_id ticket) const { return waiting_.contains(ticket); }
  std::size_t size() const noexcept { return line_.size(); }
  std::size_t users() const noexcept { return users_.size(); }
  /// All who wait, in the order in which they will be served.
  const std::set<place>& line() const noexcept { return line_; }
  /// Returns the place of a waiting ticket, 1 being next; 0 when it does not wait. O(place).
  std::uint32_t position(ticket_id ticket) const;
  /// Pages wanted by this ticket and all before it.
  std::uint64_t pages_until(ticket_id ticket) const;
  /// When a request counts as having arrived.
  moment counts_from(moment arrived, int priority) const;

 private:
  struct key {
    moment counts_from;
    ticket_id ticket{};
    bool operator<(const key& other) const;
  };
  struct waiter {
    entry about;
    place at;
    double start = 0;  ///< the tag before priority
  };
  struct user_line {
    double given = 0;  ///< tokens, on the scale of now_
    std::map<key, ticket_id> line;
  };
  void enqueue_resumed(entry added);
  void retag(user_line& of, std::map<key, ticket_id>::iterator from);
  void remove(ticket_id ticket);
  void forget_idle_users();

  options options_;
  std::set<place> line_;
  std::unordered_map<ticket_id, waiter> waiting_;
  std::unordered_map<std::string, user_line> users_;
  double now_ = 0;  ///< the tag being served
};

}  // namespace quire
