#include "cli/logging.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace quire::cli {
namespace {

/// One JSON object per line; spdlog's own patterns cannot escape a message.
class json_formatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    stamp_.format(message, out);
    const nlohmann::ordered_json line{
        {"time", std::string(out.data(), out.size())},
        {"level", std::string(to_view(spdlog::level::to_string_view(message.level)))},
        {"message", std::string(to_view(message.payload))}};
    const std::string text =
        line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    out.clear();
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<json_formatter>();
  }

 private:
  static std::string_view to_view(spdlog::string_view_t text) { return {text.data(), text.size()}; }
  spdlog::pattern_formatter stamp_{"%Y-%m-%dT%H:%M:%S.%eZ", spdlog::pattern_time_type::utc, ""};
};

}  // namespace

void set_up_logging(std::string_view level, std::string_view format) {
  auto log = spdlog::stderr_color_mt("quire");
  log->set_level(spdlog::level::from_str(std::string(level)));
  log->flush_on(spdlog::level::trace);
  if (format == "json")
    log->set_formatter(std::make_unique<json_formatter>());
  else
    log->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  spdlog::set_default_logger(std::move(log));
}

}  // namespace quire::cli
