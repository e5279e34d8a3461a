#include "models/token_index.hpp"

#include <bit>
#include <cstring>
#include <random>

namespace quire {

namespace {

std::uint64_t process_seed() noexcept {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return (std::uint64_t{device()} << 32U) ^ device();
  }();
  return seed;
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using wide = unsigned __int128;
  const wide product = static_cast<wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

// Odd constants with about as many ones as zeros, as multiplicative hashes need.
constexpr std::uint64_t first_factor = 0x9e3779b97f4a7c15U;
constexpr std::uint64_t second_factor = 0xd1b54a32d192ed03U;

}  // namespace

std::uint64_t seeded_hash(std::uint64_t key) noexcept {
  return mix(key ^ process_seed(), first_factor);
}

std::uint64_t seeded_hash(std::string_view text) noexcept {
  std::uint64_t hash = process_seed() ^ (text.size() * second_factor);
  std::uint64_t word = 0;
  while (text.size() >= sizeof(word)) {
    std::memcpy(&word, text.data(), sizeof(word));
    hash = mix(hash ^ word, first_factor);
    text.remove_prefix(sizeof(word));
  }
  word = 0;
  std::memcpy(&word, text.data(), text.size());
  return mix(hash ^ word, second_factor);
}

token_index::token_index(std::span<const std::string_view> texts) : texts_(texts) {
  slots_.resize(std::bit_ceil(texts.size() * 2 + 2));
  const std::uint64_t mask = slots_.size() - 1;
  for (std::uint32_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) continue;
    const std::uint64_t hash = seeded_hash(texts[id]);
    const auto tag = static_cast<std::uint32_t>(hash >> 32U);
    std::uint64_t at = hash & mask;
    bool known = false;
    for (; slots_[at].id != no_token && !known; at = (at + 1) & mask)
      known = slots_[at].tag == tag && texts[slots_[at].id] == texts[id];
    if (!known) {
      slots_[at] = {tag, id};
    } else if (duplicate_ == no_token) {
      duplicate_ = id;
    }
  }
}

std::uint32_t token_index::find(std::string_view text) const noexcept {
  if (slots_.empty()) return no_token;
  const std::uint64_t mask = slots_.size() - 1;
  const std::uint64_t hash = seeded_hash(text);
  const auto tag = static_cast<std::uint32_t>(hash >> 32U);
  for (std::uint64_t at = hash & mask; slots_[at].id != no_token; at = (at + 1) & mask)
    if (slots_[at].tag == tag && texts_[slots_[at].id] == text) return slots_[at].id;
  return no_token;
}

}  // namespace quire
