// The one error type of the project: a code with a stable meaning, and a message for people.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace quire {

/// Says what went wrong. The names are stable: they appear in JSON answers and logs.
enum class errc : std::uint8_t {
  /// A parameter, flag or field has a value that cannot be used.
  invalid_argument,
  /// A YAML file is malformed or holds an unknown key or a wrong value.
  invalid_config,
  /// A file's content contradicts its format (truncated, hostile, or not that format).
  invalid_file,
  /// A file or directory cannot be opened, read or written.
  io_error,
  /// The model needs an architecture, tensor type, tokenizer or template feature that is missing.
  unsupported,
  /// Too few free pages. numbers: {needed, available} in pages.
  out_of_pages,
  /// A position past the block table. numbers: {page, position}.
  invalid_page_access,
  /// A position past the capacity of a sequence. numbers: {position, allocated} in tokens.
  out_of_bounds,
  /// No live sequence has this id. numbers: {id, 0}.
  sequence_not_found,
  /// Prompt plus output can never fit. numbers: {needed, available} in tokens.
  context_length_exceeded,
  /// The admission queue is full; try again later. numbers: {retry_after_ms, 0}.
  queue_full,
  /// The request's deadline passed or cannot be met.
  deadline_exceeded,
  /// The client left or cancelled.
  cancelled,
  /// The engine is loading or draining and takes no new work.
  unavailable,
  /// A named thing (model, route) does not exist.
  not_found,
  /// A defect of quire itself.
  internal,
};

/// The number of codes; errc_name and the HTTP and exit mappings cover all of them.
inline constexpr std::size_t num_errc = static_cast<std::size_t>(errc::internal) + 1;

/// Returns the stable snake_case name of a code.
std::string_view errc_name(errc code) noexcept;

/// Returns the HTTP status that a code maps to (400, 404, 429, 499, 500, 503, 504).
int http_status(errc code) noexcept;

/// Returns the process exit code: 2 for what the user can mend in input or usage, else 1.
int exit_code(errc code) noexcept;

/// An error as a value: what, the figures of the code's line above, and a sentence for a person.
struct error {
  errc code = errc::internal;
  std::string message;
  std::array<std::uint64_t, 2> numbers{};
};

template <class T>
using result = tl::expected<T, error>;

/// Builds the failing side of a result: `return fail(errc::io_error, "cannot open x");`.
inline tl::unexpected<error> fail(errc code, std::string message,
                                  std::array<std::uint64_t, 2> numbers = {}) {
  return tl::unexpected<error>(error{code, std::move(message), numbers});
}

}  // namespace quire
