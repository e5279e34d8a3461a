// The engine's decisions in virtual time: cache_accounts (ledger, fair queue, reclaim policy,
// parking) and batch_planner serve random requests of competing users, with no actors and no model.
// The requests answer as the real ones do: they take, grow, park, refuse, stay silent, give up.
#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "actors/batch_planner.hpp"
#include "actors/cache_accounts.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using namespace std::chrono_literals;

namespace {

// ctest runs the long form as its own, slow test.
#ifdef QUIRE_SLOW_TESTS
constexpr std::uint32_t num_requests = 100000;
#else
constexpr std::uint32_t num_requests = 6000;
#endif
constexpr std::uint32_t page_tokens = 16;
constexpr std::uint32_t budget_step = 64;
constexpr std::uint32_t num_users = 20;  // user 0 asks for as much as it can at once
constexpr std::uint32_t greedy_at_once = 1000;
constexpr std::uint32_t others_at_once = 12;
constexpr std::uint32_t pool_pages = 300;

struct request {
  std::uint32_t user = 0;
  std::shared_ptr<const std::vector<token_id>> prompt;
  std::uint32_t new_tokens = 0;
  int priority = 0;
  moment arrived;
  std::optional<moment> deadline;
  bool silent = false;  // never answers when asked to yield
  // State.
  std::optional<ticket_id> ticket;
  std::optional<sequence_id> sequence;
  bool running = false;  // known to the planner
  bool yielding = false;
  std::uint32_t stored = 0;
  std::uint32_t generated = 0;
  std::uint64_t granted = 0;
  bool for_prefix = false;          // waited for what another computes, not for pages
  bool served = false;              // got pages once
  std::uint64_t served_before = 0;  // tokens given to all when it arrived
  double own_before = 0;            // and to its user
  std::uint64_t length() const { return prompt->size() + generated; }
  std::uint64_t most() const { return prompt->size() + new_tokens - 1; }
};

struct outcome {
  std::uint32_t finished = 0, too_late = 0;
  std::uint64_t worst_wait_tokens = 0;
  double worst_wait_of_bound = 0;
  std::vector<double> tokens_of_user = std::vector<double>(num_users, 0.0);
};

class simulation {
 public:
  explicit simulation(std::uint32_t seed) : random_(seed) {
    cache_accounts::options chosen;
    chosen.park = {15, 60};
    chosen.max_running = 48;
    auto made = cache_accounts::make(pool_pages, page_tokens, chosen);
    REQUIRE(made.has_value());
    cache_ = std::move(*made);
    limits_.max_streams = chosen.max_running;
    limits_.step_tokens = 256;
  }

  outcome run() {
    std::uint64_t idle_steps = 0;
    while (result_.finished + result_.too_late < num_requests) {
      arrive();
      expire();
      serve();
      const bool worked = step();
      idle_steps = worked ? 0 : idle_steps + 1;
      REQUIRE(idle_steps < 1000);  // nobody waits for somebody who waits
      if (steps_ % 500 == 0) REQUIRE(cache_->check());
    }
    serve();
    step();
    REQUIRE(cache_->check());
    const auto stats = cache_->store().stats();
    REQUIRE(stats.active_sequences == 0);
    REQUIRE(stats.used_pages == cache_->prefix().pages);
    REQUIRE(cache_->parked().memory_pages() + cache_->parked().disk_pages() == 0);
    REQUIRE(cache_->ledger().promised() == 0);
    REQUIRE(all_.empty());
    return result_;
  }
  const cache_counters& counters() const { return cache_->counters(); }

 private:
  using key = std::uint64_t;

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }

  void arrive() {
    at_once_.resize(num_users);
    for (std::uint32_t user = 0; user < num_users && arrived_ < num_requests; ++user)
      while (at_once_[user] < (user == 0 ? greedy_at_once : others_at_once) &&
             arrived_ < num_requests)
        submit(user);
  }

  void submit(std::uint32_t user) {
    ++arrived_;
    ++at_once_[user];
    const key id = ++last_;
    request& asked = all_[id];
    asked.user = user;
    const std::uint32_t tokens = below(20) == 0 ? 300 + below(500) : 4 + below(120);
    std::vector<token_id> prompt(tokens);
    for (token_id& token : prompt) token = token_id{below(1000)};
    if (below(3) == 0)  // one of a few beginnings, to be shared
      std::fill_n(prompt.begin(), tokens / 2, token_id{below(4)});
    asked.prompt = std::make_shared<const std::vector<token_id>>(std::move(prompt));
    asked.new_tokens = 1 + below(below(10) == 0 ? 200 : 24);
    asked.priority = below(10) == 0 ? static_cast<int>(below(3)) - 1 : 0;
    asked.arrived = now_;
    if (below(50) == 0) asked.deadline = now_ + std::chrono::milliseconds(below(20000));
    asked.silent = below(40) == 0;
    asked.served_before = given_;
    asked.own_before = given_to_[user];
    negotiate(id, asked, false);
  }

  void negotiate(key id, request& asked, bool again) {
    budget_terms terms;
    terms.request = request_id{id};
    terms.user = std::to_string(asked.user);
    auto known = std::make_shared<std::vector<token_id>>(*asked.prompt);
    known->resize(asked.length(), token_id{5});
    terms.sequence_tokens = std::min<std::uint64_t>(asked.length() + budget_step, asked.most());
    terms.final_tokens = asked.most();
    terms.least_tokens =
        again ? 0 : std::min<std::uint64_t>(asked.prompt->size() + 8, asked.most());
    terms.max_cached_tokens = known->size() - 1;
    terms.prompt = std::move(known);
    terms.priority = asked.priority;
    terms.arrived = asked.arrived;
    terms.resumed = again;
    const auto answer = cache_->negotiate(std::move(terms), now_);
    REQUIRE_FALSE(std::holds_alternative<refusal>(answer));
    if (const auto* made = std::get_if<offer>(&answer)) return take(id, *made);
    asked.ticket = std::get<counter_offer>(answer).ticket;
    asked.for_prefix |= std::get<counter_offer>(answer).for_prefix;
    by_ticket_[*asked.ticket] = id;
  }

  void take(key id, const offer& made) {
    request& asked = all_.at(id);
    const bool restored = asked.ticket == made.ticket && asked.served && asked.stored > 0;
    if (!is_offer_open(made)) return;
    asked.ticket = made.ticket;
    by_ticket_[made.ticket] = id;
    asked.sequence = made.sequence;
    by_sequence_[made.sequence] = id;
    if (restored) REQUIRE(asked.stored == made.cached_tokens);  // exactly where it was
    asked.stored = made.cached_tokens;
    asked.granted = std::min<std::uint64_t>(made.sequence_tokens, asked.most());
    if (!asked.served) note_service(asked);
    asked.served = true;
    go_on(asked);
  }
  bool is_offer_open(const offer& made) { return cache_->accept(made.ticket).has_value(); }

  // Waiting is bounded in tokens given to everybody: as many per user as its own user was given
  // meanwhile, one request more, and the head start of priorities. Shares are reckoned in whole
  // pages.
  void note_service(request& asked) {
    if (asked.for_prefix) return;
    const double waited = static_cast<double>(given_ - asked.served_before);
    const double largest = 800 + 200 + 2 * page_tokens;
    const double bound = num_users * ((given_to_[asked.user] - asked.own_before) * 1.3 +
                                      2 * largest + 2 * 2 * 2000.0);
    result_.worst_wait_tokens = std::max(result_.worst_wait_tokens, given_ - asked.served_before);
    result_.worst_wait_of_bound = std::max(result_.worst_wait_of_bound, waited / bound);
  }

  void go_on(request& asked) {
    asked.running = true;
    const std::uint64_t prompt_left = std::min(asked.length(), asked.granted) - asked.stored;
    if (prompt_left > 1 || asked.generated == 0)
      planner_.add(*asked.sequence, static_cast<std::uint32_t>(prompt_left), asked.priority,
                   asked.arrived);
    else
      planner_.resume(*asked.sequence);
  }

  void leave_planner(request& asked) {
    if (asked.sequence) planner_.remove(*asked.sequence);
    asked.running = false;
  }

  void end(key id, bool finished) {
    request& asked = all_.at(id);
    leave_planner(asked);
    if (asked.sequence) {
      cache_->release(*asked.sequence, now_);
      by_sequence_.erase(*asked.sequence);
    }
    if (asked.ticket) {
      cache_->drop(*asked.ticket, now_);
      by_ticket_.erase(*asked.ticket);
    }
    if (asked.deadline) REQUIRE((!finished || now_ <= *asked.deadline + longest_step_));
    --at_once_[asked.user];
    (finished ? result_.finished : result_.too_late) += 1;
    all_.erase(id);
  }

  void expire() {
    std::vector<key> late;
    for (const auto& [id, asked] : all_)
      if (asked.deadline && now_ > *asked.deadline) late.push_back(id);
    for (const key id : late) end(id, false);
  }

  void serve() {
    for (const cache_effect& effect : cache_->serve(now_)) {
      if (const auto* made = std::get_if<offer>(&effect)) {
        const auto found = by_ticket_.find(made->ticket);
        if (found != by_ticket_.end()) take(found->second, *made);
      } else if (const auto* ask = std::get_if<yield_ask>(&effect)) {
        answer(*ask);
      } else if (const auto* grown = std::get_if<growth_answer>(&effect)) {
        hear_growth(*grown);
      } else {
        hear_loss(std::get<taken_back>(effect));
      }
    }
  }

  void answer(const yield_ask& ask) {
    const auto found = by_sequence_.find(ask.sequence);
    if (found == by_sequence_.end()) return;
    request& asked = all_.at(found->second);
    if (asked.silent || asked.yielding) return;
    if (asked.generated > 0 && asked.new_tokens - asked.generated <= 4)
      return cache_->yielded(ask.sequence, yield_choice::refuse, 0, now_);
    if (below(4) == 0) {
      cache_->yielded(ask.sequence, yield_choice::recompute, 0, now_);
      const ticket_id old = *asked.ticket;
      cache_->release(ask.sequence, now_);
      return hear_loss({old, ask.sequence});
    }
    park(asked);
  }

  void park(request& asked) {
    asked.yielding = true;
    leave_planner(asked);
    cache_->yielded(*asked.sequence, yield_choice::park,
                    std::min<std::uint64_t>(asked.length() + budget_step, asked.most()), now_);
  }

  void hear_loss(const taken_back& lost) {
    const auto found = by_ticket_.find(lost.ticket);
    if (found == by_ticket_.end()) return;
    const key id = found->second;
    request& asked = all_.at(id);
    leave_planner(asked);
    if (asked.sequence) by_sequence_.erase(*asked.sequence);
    asked.sequence.reset();
    asked.ticket.reset();
    by_ticket_.erase(found);
    asked.yielding = false;
    asked.stored = 0;
    negotiate(id, asked, true);
  }

  void grow(request& asked) {
    const std::uint64_t wanted = std::min<std::uint64_t>(asked.granted + budget_step, asked.most());
    leave_planner(asked);
    const auto said = cache_->extend(*asked.sequence, wanted, now_);
    if (said != cache_accounts::growth::waits)
      hear_growth({*asked.sequence, said == cache_accounts::growth::granted});
  }

  void hear_growth(const growth_answer& said) {
    const auto found = by_sequence_.find(said.sequence);
    if (found == by_sequence_.end()) return;
    request& asked = all_.at(found->second);
    if (asked.yielding || asked.running) return;
    if (!said.granted) return park(asked);
    asked.granted = std::min<std::uint64_t>(asked.granted + budget_step, asked.most());
    go_on(asked);
  }

  bool step() {
    ++steps_;
    std::vector<lease_item> items;
    const auto parts = planner_.plan(limits_);
    std::uint32_t tokens = 0, decodes = 0;
    for (const auto& part : parts) {
      lease_item item{part.sequence, part.tokens, {}};
      if (part.decode) item.generated.push_back(token_id{5});
      (part.decode ? decodes : tokens) += part.tokens;
      items.push_back(std::move(item));
    }
    const auto pages = cache_->lease(steps_, items, items.empty());
    for (const parked_sequence& parked : pages.parked) hear_parked(parked.sequence);
    const auto took = std::chrono::microseconds(1000 + 200 * decodes + 50 * tokens);
    longest_step_ = std::max<moment::duration>(longest_step_, took);
    now_ += items.empty() ? std::chrono::microseconds(5000) : took;
    REQUIRE(cache_->end_step(steps_, {}).empty());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      REQUIRE(pages.grants[i].what != lease_grant::outcome::denied);  // a promise is a promise
      if (pages.grants[i].what == lease_grant::outcome::granted) advance(parts[i]);
    }
    return !items.empty() || !pages.exchange.empty();
  }

  void hear_parked(sequence_id sequence) {
    const auto found = by_sequence_.find(sequence);
    if (found == by_sequence_.end()) return;
    request& asked = all_.at(found->second);
    by_sequence_.erase(found);
    asked.sequence.reset();
    asked.yielding = false;
  }

  void advance(const batch_planner::part& part) {
    const auto found = by_sequence_.find(part.sequence);
    if (found == by_sequence_.end()) return;
    const key id = found->second;
    request& asked = all_.at(id);
    given_ += part.tokens;
    given_to_[asked.user] += part.tokens;
    // Shares are compared as long as everybody wants more.
    if (arrived_ < num_requests) result_.tokens_of_user[asked.user] += part.tokens;
    asked.stored += part.tokens;
    if (!part.decode && !planner_.advance(part.sequence, part.tokens)) return;
    if (asked.stored >= asked.length() && ++asked.generated >= asked.new_tokens)
      return end(id, true);
    if (asked.stored >= asked.granted) grow(asked);
  }

  std::mt19937 random_;
  std::unique_ptr<cache_accounts> cache_;
  batch_planner planner_{std::chrono::milliseconds(2000)};
  step_limits limits_;
  std::map<key, request> all_;
  std::map<ticket_id, key> by_ticket_;
  std::map<sequence_id, key> by_sequence_;
  std::vector<std::uint32_t> at_once_;
  std::map<std::uint32_t, double> given_to_;
  moment now_ = moment{} + 1h;
  moment::duration longest_step_{};
  std::uint64_t steps_ = 0, last_ = 0, given_ = 0;
  std::uint32_t arrived_ = 0;
  outcome result_;
};

// 1: all got the same; 1/n: one got everything.
double jain_index(const std::vector<double>& shares) {
  double sum = 0, squares = 0;
  for (const double share : shares) sum += share, squares += share * share;
  return sum * sum / (static_cast<double>(shares.size()) * squares);
}

}  // namespace

TEST_CASE("in virtual time nobody starves, pages are conserved and users get equal shares",
          "[actors]") {
  simulation world(1);
  const outcome done = world.run();
  const auto& counts = world.counters();
  CHECK(done.finished + done.too_late == num_requests);
  CHECK(done.too_late < num_requests / 40);  // of the one in fifty that had a deadline
  CHECK(done.worst_wait_of_bound < 1.0);
  // The greedy user had 1,000 waiting at any time, the others 12 each.
  const double fairness = jain_index(done.tokens_of_user);
  CHECK(fairness > 0.9);
  // What the test is about has happened.
  CHECK(counts.reclaims > num_requests / 1000);
  CHECK(counts.parks > 0);
  CHECK(counts.parks_to_disk > 0);
  CHECK(counts.resumes > 0);
  CHECK(counts.silent_yields > 0);
  CHECK(counts.refused_yields > 0);
  CHECK(counts.smaller_offers > 0);
  WARN("fairness index " << fairness << " over " << num_users << " users, worst wait "
                         << done.worst_wait_tokens << " tokens (" << done.worst_wait_of_bound
                         << " of the bound), reclaims " << counts.reclaims << ", parks "
                         << counts.parks << " (" << counts.parks_to_disk << " to disk), resumes "
                         << counts.resumes << ", recomputes " << counts.recomputes << ", silent "
                         << counts.silent_yields << ", missed deadlines " << done.too_late);
}
