// Strong ids: an id of one kind cannot be handed where another is meant.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace quire {

/// The index of a physical page in the pool.
enum class page_id : std::uint32_t {};

/// Names a sequence of the page store. Strictly increasing, never reused; 0 is never given out.
enum class sequence_id : std::uint64_t {};

/// The index of a token in the model's vocabulary.
enum class token_id : std::uint32_t {};

/// Names a request of the engine. Strictly increasing, never reused; 0 is never given out.
enum class request_id : std::uint64_t {};

/// Returns the plain number of an id.
constexpr std::uint32_t to_index(page_id id) noexcept {
  return static_cast<std::uint32_t>(id);
}
constexpr std::uint32_t to_index(token_id id) noexcept {
  return static_cast<std::uint32_t>(id);
}
constexpr std::uint64_t to_index(sequence_id id) noexcept {
  return static_cast<std::uint64_t>(id);
}
constexpr std::uint64_t to_index(request_id id) noexcept {
  return static_cast<std::uint64_t>(id);
}

}  // namespace quire
