// The part of http_connection that runs a generation and sends its answer.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "server/generation_run.hpp"
#include "server/http_connection.hpp"
#include "server/openai_response.hpp"
#include "server/sse.hpp"

namespace quire {
namespace net = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::chrono::seconds heartbeat_interval{15};
constexpr std::size_t watch_limit_bytes = 64 * 1024;  // of pipelined requests held meanwhile
constexpr std::size_t watch_piece_bytes = 4096;

error timed_out(std::uint32_t limit_ms) {
  return {errc::deadline_exceeded,
          "The request took longer than server.request_timeout_ms, " + std::to_string(limit_ms) +
              " ms.",
          {}};
}

// The watch must not outlive the run that it would cancel, however the coroutine ends.
struct watch_guard {
  generation_run*& watched;
  ~watch_guard() { watched = nullptr; }
};

}  // namespace

// Puts the head before the first events and chunk frames around all of them.
class http_connection::event_stream {
 public:
  event_stream(const http_api& api, const http_request& request)
      : api_(&api), request_(&request), keep_alive_(request.keep_alive && !request.http_1_0) {}

  bool started() const { return started_; }
  bool keep_alive() const { return keep_alive_; }

  std::string wrap(std::string_view events, bool last) {
    std::string bytes;
    if (!std::exchange(started_, true)) bytes = head();
    if (request_->http_1_0) return bytes += events;
    append_chunk(bytes, events);
    if (last) bytes += last_chunk;
    return bytes;
  }

 private:
  std::string head() const {
    http_reply reply;
    reply.content_type = "text/event-stream; charset=utf-8";
    // The second asks proxies of nginx's kind not to hold events back.
    reply.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    api_->decorate(reply, *request_);
    return stream_head(reply, *request_, keep_alive_);
  }

  const http_api* api_;
  const http_request* request_;
  bool keep_alive_;
  bool started_ = false;
};

// Whom the engine's fairness counts a request for: the API key, else the user that it names, else
// the address it comes from. The first letters keep the three apart.
std::string http_connection::counts_for(const http_request& request,
                                        const std::string& user) const {
  if (!request.authorization.empty()) return "key " + request.authorization;
  if (!user.empty()) return "user " + user;
  error_code unknown;
  const auto peer = stream_.socket().remote_endpoint(unknown);
  return unknown ? std::string("peer") : "peer " + peer.address().to_string();
}

auto http_connection::generate(const http_request& request, openai_call call) -> task<next> {
  const bool chat = call.kind == api_kind::chat;
  const answer_identity identity{(chat ? "chatcmpl-" : "cmpl-") + random_id(),
                                 std::chrono::duration_cast<std::chrono::seconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count(),
                                 call.model};
  auto& served_engine = context_.api.served_engine();
  openai_answer answer(call, identity, served_engine.vocabulary());
  failed_field_ = call.prompt_field();
  generation_run run(served_engine, [weak = weak_from_this()] {
    if (auto self = weak.lock()) net::post(self->stream_.get_executor(), [self] { self->ring(); });
  });
  for (generation_request& prompt : call.prompts) prompt.user = counts_for(request, prompt.user);
  run.submit(std::move(call.prompts));
  const watch_guard guard{watched_};
  start_watch(run);
  const auto follow = call.stream ? co_await send_events(request, run, answer)
                                  : co_await send_body(request, run, answer);
  co_await stop_watch();
  co_return gone_ ? next::hang_up : follow;
}

void http_connection::take_events(generation_run& run, openai_answer& answer, std::string& out) {
  for (auto& item : run.take()) answer.take(item.prompt, std::move(item.event), out);
  if (answer.complete()) run.set_complete();
}

auto http_connection::send_failure(const http_request& request, const error& why) -> task<next> {
  if (http_status(why.code) == 500)
    spdlog::error("request {} failed: {}", request.request_id, why.message);
  co_return co_await send(error_reply(to_api_error(why, failed_field_, request.request_id)),
                          request, request.keep_alive);
}

auto http_connection::send_body(const http_request& request, generation_run& run,
                                openai_answer& answer) -> task<next> {
  const auto limit_ms = context_.options.request_timeout_ms;
  const auto deadline = clock::now() + std::chrono::milliseconds(limit_ms);
  std::string unused;
  for (;;) {
    take_events(run, answer, unused);
    if (gone_) co_return next::hang_up;
    if (answer.failure()) break;
    if (answer.complete()) {
      co_await stop_watch();
      co_return co_await send(json_reply(answer.body()), request, request.keep_alive);
    }
    if (clock::now() >= deadline) break;
    co_await wait_until(deadline);
  }
  const auto why = answer.failure() ? *answer.failure() : timed_out(limit_ms);
  run.cancel();
  co_await stop_watch();
  co_return co_await send_failure(request, why);
}

auto http_connection::send_events(const http_request& request, generation_run& run,
                                  openai_answer& answer) -> task<next> {
  const auto limit_ms = context_.options.request_timeout_ms;
  auto deadline = clock::now() + std::chrono::milliseconds(limit_ms);
  auto heartbeat = clock::now() + heartbeat_interval;
  event_stream stream(context_.api, request);
  for (;;) {
    std::string events;
    take_events(run, answer, events);
    if (gone_) co_return next::hang_up;
    auto why = answer.failure();
    const bool complete = answer.complete() && !why;
    const auto now = clock::now();
    if (!why && !complete && now >= deadline) why = timed_out(limit_ms);
    if (why) co_return co_await end_by_failure(request, run, stream, std::move(events), *why);
    if (complete) answer.append_end(events);
    if (now >= heartbeat) {
      heartbeat = now + heartbeat_interval;
      if (events.empty() && answer.admitted()) append_sse_heartbeat(events);
    }
    if (events.empty()) {
      co_await wait_until(std::min(deadline, heartbeat));
      continue;
    }
    // The head goes out with the first event: a failure before that has its own status line.
    if (!co_await write(stream.wrap(events, complete))) co_return next::hang_up;
    if (complete) co_return stream.keep_alive() ? next::read_on : next::linger;
    // The time that the client takes to read is its own.
    deadline += clock::now() - now;
    heartbeat = clock::now() + heartbeat_interval;
  }
}

auto http_connection::end_by_failure(const http_request& request, generation_run& run,
                                     event_stream& stream, std::string events, const error& why)
    -> task<next> {
  run.cancel();
  if (!stream.started() && events.empty()) {
    co_await stop_watch();
    co_return co_await send_failure(request, why);
  }
  append_sse_event(events, to_json(to_api_error(why, failed_field_, request.request_id)));
  co_await write(stream.wrap(events, true));
  co_return next::linger;
}

void http_connection::start_watch(generation_run& run) {
  watched_ = &run;
  watch();
}

void http_connection::watch() {
  if (buffer_.size() >= watch_limit_bytes) return;
  watch_pending_ = true;
  stream_.socket().async_read_some(
      buffer_.prepare(watch_piece_bytes),
      [self = shared_from_this()](const error_code& failure, std::size_t size) {
        self->watch_pending_ = false;
        if (!failure) self->buffer_.commit(size);
        if (self->watched_ != nullptr && failure != net::error::operation_aborted) {
          if (!failure) {
            self->watch();
          } else {
            self->gone_ = true;
            self->watched_->cancel();
            error_code ignored;
            self->stream_.socket().cancel(ignored);  // a write that nobody will read
          }
        }
        self->ring();
      });
}

auto http_connection::stop_watch() -> task<> {
  watched_ = nullptr;
  while (watch_pending_) {
    error_code ignored;
    stream_.socket().cancel(ignored);
    co_await wait_until(clock::now() + std::chrono::seconds(1));
  }
}

void http_connection::ring() {
  if (watched_ != nullptr) watched_->keep_pace();
  rung_ = true;
  bell_.cancel();
}

auto http_connection::wait_until(clock::time_point deadline) -> task<> {
  if (!rung_) {
    bell_.expires_at(deadline);
    co_await bell_.async_wait(net::as_tuple(net::use_awaitable));
  }
  rung_ = false;
}

}  // namespace quire
