#include "core/error.hpp"

namespace quire {
namespace {

struct errc_row {
  std::string_view name;
  int http;
  int exit;
};

constexpr errc_row rows[] = {
    {"invalid_argument", 400, 2},    {"invalid_config", 400, 2},
    {"invalid_file", 400, 2},        {"io_error", 500, 2},
    {"unsupported", 400, 2},         {"out_of_pages", 500, 1},
    {"invalid_page_access", 500, 1}, {"out_of_bounds", 500, 1},
    {"sequence_not_found", 500, 1},  {"context_length_exceeded", 400, 2},
    {"queue_full", 429, 1},          {"deadline_exceeded", 504, 1},
    {"cancelled", 499, 1},           {"unavailable", 503, 1},
    {"not_found", 404, 2},           {"internal", 500, 1},
};
static_assert(std::size(rows) == num_errc, "every errc needs its row, in the enum's order");

const errc_row& row(errc code) noexcept {
  return rows[static_cast<std::size_t>(code)];
}

}  // namespace

std::string_view errc_name(errc code) noexcept {
  return row(code).name;
}
int http_status(errc code) noexcept {
  return row(code).http;
}
int exit_code(errc code) noexcept {
  return row(code).exit;
}

}  // namespace quire
