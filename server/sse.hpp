// Server-sent events as text: what one event, a heartbeat and the end mark look like on the wire.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace quire {

/// Returns JSON on one line; bytes that are not UTF-8 become U+FFFD.
std::string dump_json(const nlohmann::ordered_json& value);

/// Appends "data: {...}" and the empty line that ends an event.
void append_sse_event(std::string& out, const nlohmann::ordered_json& value);

/// Appends the mark that ends a complete stream.
void append_sse_done(std::string& out);

/// Appends a comment, which clients skip: it keeps the connection alive.
void append_sse_heartbeat(std::string& out);

}  // namespace quire
