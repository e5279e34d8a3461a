// One client connection: reads requests one after the other, answers each before reading the next,
// and watches for the client leaving while an answer is being made. Everything runs on its strand.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "server/http_api.hpp"
#include "server/http_message.hpp"

namespace quire {

class generation_run;
class openai_answer;

/// Counts the answers under way, so that a shutdown can let them be written. Thread-safe.
class answer_count {
 public:
  /// Counts one answer for as long as it lives.
  class scope {
   public:
    explicit scope(answer_count& of) : of_(of) { of_.add(1); }
    ~scope() { of_.add(-1); }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

   private:
    answer_count& of_;
  };

  /// Returns whether none is left within the time.
  bool wait_for_none(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return none_.wait_for(lock, timeout, [this] { return count_ == 0; });
  }

 private:
  void add(int change) {
    const std::lock_guard lock(mutex_);
    count_ += change;
    if (count_ == 0) none_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable none_;
  int count_ = 0;
};

/// What connections share; owned by the server and alive longer than any connection.
struct connection_context {
  const server_options& options;
  http_api& api;
  boost::asio::thread_pool& workers;
  answer_count& answers;
};

class http_connection : public std::enable_shared_from_this<http_connection> {
 public:
  using tcp = boost::asio::ip::tcp;

  /// The socket's executor must be a strand.
  http_connection(tcp::socket socket, connection_context& context);

  /// Serves until the client leaves or close() is called; lives as long as that takes.
  void start();
  /// Ends the connection from any thread; what it waits for is cancelled.
  void close();

 private:
  template <class T = void>
  using task = boost::asio::awaitable<T>;
  using clock = std::chrono::steady_clock;

  class event_stream;

  /// What follows an answer.
  enum class next { read_on, linger, hang_up };

  task<> run(std::shared_ptr<http_connection> self);
  task<next> serve_one();
  task<http_api::answer> ask(const http_request& request);
  task<next> send(http_reply reply, const http_request& request, bool keep_alive);
  task<bool> write(const std::string& bytes);
  task<> linger();

  task<next> generate(const http_request& request, openai_call call);
  std::string counts_for(const http_request& request, const std::string& user) const;
  task<next> send_events(const http_request& request, generation_run& run, openai_answer& answer);
  task<next> send_body(const http_request& request, generation_run& run, openai_answer& answer);
  task<next> end_by_failure(const http_request& request, generation_run& run, event_stream& stream,
                            std::string events, const error& why);
  task<next> send_failure(const http_request& request, const error& why);
  void take_events(generation_run& run, openai_answer& answer, std::string& out);

  // The watch: a read that is pending while nothing is expected, to hear the client leave.
  void start_watch(generation_run& run);
  void watch();
  task<> stop_watch();

  // The bell wakes the coroutine that waits for events.
  void ring();
  task<> wait_until(clock::time_point deadline);

  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  boost::asio::steady_timer bell_;
  connection_context& context_;
  generation_run* watched_ = nullptr;
  std::string failed_field_;
  bool rung_ = false;
  bool watch_pending_ = false;
  bool gone_ = false;  // the client left, or the server closes
};

}  // namespace quire
