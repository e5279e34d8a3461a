#include "server/sse.hpp"

namespace quire {

std::string dump_json(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void append_sse_event(std::string& out, const nlohmann::ordered_json& value) {
  out += "data: ";
  out += dump_json(value);
  out += "\n\n";
}

void append_sse_done(std::string& out) {
  out += "data: [DONE]\n\n";
}

void append_sse_heartbeat(std::string& out) {
  out += ": waiting\n\n";
}

}  // namespace quire
