#include "models/special_matcher.hpp"

#include <algorithm>
#include <random>
#include <string>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

std::vector<std::uint32_t> all_ids(std::size_t count) {
  std::vector<std::uint32_t> ids(count);
  for (std::uint32_t i = 0; i < count; ++i) ids[i] = i;
  return ids;
}

/// The rule as the reference applies it: token after token, longest first, cutting what is left.
std::vector<special_match> cut_token_by_token(const std::vector<std::string_view>& texts,
                                              std::string_view text) {
  auto order = all_ids(texts.size());
  std::ranges::stable_sort(order,
                           [&](auto a, auto b) { return texts[a].size() > texts[b].size(); });
  std::vector<special_match> found;
  std::vector<bool> taken(text.size(), false);
  for (const auto id : order) {
    const std::size_t size = texts[id].size();
    for (std::size_t at = 0; at + size <= text.size();) {
      const bool here = text.substr(at, size) == texts[id] &&
                        std::none_of(taken.begin() + static_cast<std::ptrdiff_t>(at),
                                     taken.begin() + static_cast<std::ptrdiff_t>(at + size),
                                     [](bool t) { return t; });
      if (!here) {
        ++at;
        continue;
      }
      std::fill_n(taken.begin() + static_cast<std::ptrdiff_t>(at), size, true);
      found.push_back({at, size, id});
      at += size;
    }
  }
  std::ranges::sort(found, {}, &special_match::offset);
  return found;
}

}  // namespace

TEST_CASE("special tokens are found where they stand", "[models][tokenizer]") {
  const std::vector<std::string_view> texts{"<a>", "<ab>", "", "b"};
  const special_matcher matcher(texts, all_ids(texts.size()));
  CHECK(matcher.find("").empty());
  CHECK(matcher.find("x<").empty());
  CHECK(matcher.find("<a><ab> b") == std::vector<special_match>{{0, 3, 0}, {3, 4, 1}, {8, 1, 3}});
}

TEST_CASE("overlaps are cut as the reference cuts them", "[models][tokenizer]") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const auto word = [&](std::size_t longest) {
      std::string out(1 + random() % longest, 'a');
      for (char& c : out) c = static_cast<char>('a' + random() % 2);
      return out;
    };
    std::vector<std::string> owned;
    for (std::size_t i = 0; i < 1 + random() % 6; ++i) owned.push_back(word(5));
    std::ranges::sort(owned);
    owned.erase(std::unique(owned.begin(), owned.end()), owned.end());
    const std::vector<std::string_view> texts(owned.begin(), owned.end());
    const auto text = word(30);
    INFO(text);
    const special_matcher matcher(texts, all_ids(texts.size()));
    REQUIRE(matcher.find(text) == cut_token_by_token(texts, text));
  }
}

TEST_CASE("a long run of overlapping tokens gives no more matches than it needs",
          "[models][tokenizer]") {
  std::vector<std::string> owned;
  for (std::size_t size = 1; size <= 31; ++size) owned.emplace_back(size, '\n');
  const std::vector<std::string_view> texts(owned.begin(), owned.end());
  const special_matcher matcher(texts, all_ids(texts.size()));
  const auto found = matcher.find(std::string(31 * 1000 + 2, '\n'));
  REQUIRE(found.size() == 1001);
  CHECK(found[999] == special_match{31 * 999, 31, 30});
  CHECK(found[1000] == special_match{31 * 1000, 2, 1});
}
