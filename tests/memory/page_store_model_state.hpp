// What the naive model of the page store knows, and how it is compared with the real store: each
// sequence's contents apart, everything else recounted from scratch.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "memory/page_store.hpp"

namespace quire::testing {

class page_store_model_state {
 protected:
  using content = std::vector<std::uint64_t>;
  /// `pages` are numbers of the model's own: equal numbers mean one shared page.
  struct model_sequence {
    std::vector<std::uint64_t> pages;
    content values;  ///< one per stored token
  };
  struct outside_reference {
    std::uint64_t page = 0;
    page_id physical{};
    content values;
  };

  page_store_model_state(std::uint32_t seed, std::uint32_t pages, std::uint32_t page_tokens)
      : random_(seed), page_tokens_(page_tokens), store_(*page_store::make(pages, page_tokens)) {
    memory_.resize(std::size_t{4} * pages * page_tokens);
  }

  std::uint32_t below(std::uint32_t limit) {
    return limit == 0 ? 0 : static_cast<std::uint32_t>(random_() % limit);
  }
  void complain(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }
  void expect(bool holds, const char* what) {
    if (!holds) complain(what);
  }
  std::uint64_t ceil_pages(std::uint64_t tokens) const {
    return (tokens + page_tokens_ - 1) / page_tokens_;
  }

  bool is_shared(std::uint64_t page) const { return num_holders(page) > 1; }
  std::uint64_t num_holders(std::uint64_t page) const {
    std::uint64_t count = 0;
    for (const auto& entry : sequences_)
      for (const std::uint64_t held : entry.second.pages) count += held == page ? 1u : 0u;
    for (const outside_reference& held : outside_) count += held.page == page ? 1u : 0u;
    return count;
  }

  // --- what must hold after every step
  // -------------------------------------------------------------

  void apply_copies() {
    for (const page_copy& copy : copies_)
      for (std::uint32_t i = 0; i < copy.tokens; ++i)
        memory_[std::size_t{to_index(copy.to)} * page_tokens_ + i] =
            memory_[std::size_t{to_index(copy.from)} * page_tokens_ + i];
    copies_.clear();
  }

  /// Everything that an error must not change.
  std::string describe() const {
    const store_stats s = store_.stats();
    std::string text;
    for (const std::uint64_t n :
         {s.sequences_allocated, s.sequences_freed, s.active_sequences, s.pages_allocated,
          s.pages_freed, s.used_pages, s.cow_operations, s.defrag_operations, s.pages_moved})
      text += std::to_string(n) + ' ';
    for (const auto& entry : sequences_) {
      text += '|' + std::to_string(store_.tokens(sequence_id{entry.first}).value()) + ':';
      const std::span<const page_id> table = store_.table(sequence_id{entry.first}).value();
      for (const page_id page : table) text += std::to_string(to_index(page)) + ' ';
    }
    for (std::uint32_t i = 0; i < store_.num_pages(); ++i) {
      const page_info info = store_.info(page_id{i});
      text += '/' + std::to_string(info.ref_count) + ' ' + std::to_string(info.tokens);
    }
    return text;
  }

  void compare() {
    std::vector<page_id> references;
    for (const outside_reference& held : outside_) references.push_back(held.physical);
    if (const auto invariants = store_.check(references); !invariants)
      complain(invariants.error().message);
    std::map<std::uint64_t, page_id> physical;  // by the model's page
    for (const auto& [id, s] : sequences_) compare_sequence(sequence_id{id}, s, physical);
    for (const outside_reference& held : outside_) {
      place(held.page, held.physical, physical);
      compare_values(held.physical, held.values.data(), page_tokens_);
    }
    std::set<page_id> used(leased_.begin(), leased_.end());
    std::uint64_t stored = 0;
    for (const auto& [page, at] : physical) {
      used.insert(at);
      const page_info info = store_.info(at);
      const std::uint64_t tokens = tokens_of(page);
      stored += tokens;
      expect(info.ref_count == num_holders(page), "a page miscounts its holders");
      expect(info.tokens == tokens, "a page miscounts its tokens");
    }
    std::set<page_id> distinct;
    for (const auto& entry : physical) distinct.insert(entry.second);
    expect(distinct.size() == physical.size(), "two pages lie in one place");
    compare_counts(used, stored);
  }

  void compare_sequence(sequence_id id, const model_sequence& s,
                        std::map<std::uint64_t, page_id>& physical) {
    const auto table = store_.table(id);
    if (!table || table->size() != s.pages.size()) return complain("a table has the wrong length");
    expect(store_.tokens(id) == s.values.size(), "a sequence miscounts its tokens");
    expect(store_.capacity(id) == s.pages.size() * page_tokens_, "a capacity is wrong");
    std::size_t adjacent = 0;
    for (std::size_t i = 0; i < s.pages.size(); ++i) {
      place(s.pages[i], (*table)[i], physical);
      adjacent += i > 0 && to_index((*table)[i]) == to_index((*table)[i - 1]) + 1 ? 1u : 0u;
      const std::size_t first = i * page_tokens_;
      if (first < s.values.size())
        compare_values((*table)[i], s.values.data() + first,
                       std::min<std::size_t>(page_tokens_, s.values.size() - first));
    }
    const double contiguity = s.pages.size() < 2 ? 1.0
                                                 : static_cast<double>(adjacent) /
                                                       static_cast<double>(s.pages.size() - 1);
    expect(store_.contiguity(id) == contiguity, "contiguity is wrong");
  }

  void place(std::uint64_t page, page_id at, std::map<std::uint64_t, page_id>& physical) {
    const auto [found, fresh] = physical.emplace(page, at);
    if (!fresh) expect(found->second == at, "sharers hold different pages");
  }

  void compare_values(page_id at, const std::uint64_t* values, std::size_t count) {
    const std::uint64_t* stored = memory_.data() + std::size_t{to_index(at)} * page_tokens_;
    expect(std::equal(values, values + count, stored), "contents differ");
  }

  std::uint64_t tokens_of(std::uint64_t page) const {
    std::uint64_t most = 0;
    for (const outside_reference& held : outside_)
      if (held.page == page) most = page_tokens_;
    for (const auto& entry : sequences_)
      for (std::size_t i = 0; i < entry.second.pages.size(); ++i) {
        const std::uint64_t stored = entry.second.values.size();
        if (entry.second.pages[i] != page || stored <= i * page_tokens_) continue;
        most = std::max<std::uint64_t>(
            most, std::min<std::uint64_t>(stored - i * page_tokens_, page_tokens_));
      }
    return most;
  }

  void compare_counts(const std::set<page_id>& used, std::uint64_t stored) {
    const store_stats s = store_.stats();
    const std::uint32_t total = store_.num_pages();
    expect(s.used_pages == used.size(), "used pages are miscounted");
    expect(s.free_pages == total - used.size(), "free pages are miscounted");
    expect(s.sequences_allocated == allocated_ + num_hogs_, "allocated sequences are miscounted");
    expect(s.sequences_freed == freed_ + num_hogs_, "freed sequences are miscounted");
    expect(s.active_sequences == sequences_.size(), "active sequences are miscounted");
    expect(s.cow_operations == cow_, "copy-on-write is miscounted");
    expect(s.pages_moved == moves_, "moved pages are miscounted");
    expect(s.defrag_operations == defragmented_, "defragmentations are miscounted");
    std::uint64_t holes = 0;
    std::uint64_t largest = 0;
    std::uint64_t run = 0;
    bool seen_used = false;
    for (std::uint32_t i = 0; i < total; ++i) {
      if (used.count(page_id{i}) == 0) {
        largest = std::max(largest, ++run);
        continue;
      }
      holes += seen_used && run > 0 ? 1u : 0u;
      seen_used = true;
      run = 0;
    }
    const fragmentation_stats f = store_.fragmentation();
    expect(f.holes == holes, "holes are miscounted");
    expect(f.largest_free_region == largest, "the largest free region is wrong");
    if (used.empty()) return expect(!store_.should_defragment(), "would defragment nothing");
    const auto num_used = static_cast<double>(used.size());
    const double wasted = num_used * page_tokens_ - static_cast<double>(stored);
    const double ratio = std::min(1.0, static_cast<double>(holes) / num_used);
    expect(static_cast<double>(f.wasted_capacity) == wasted, "wasted capacity is wrong");
    expect(f.fragmentation_ratio == ratio, "the fragmentation ratio is wrong");
    const bool should = ratio > 0.3 || (wasted / (num_used * page_tokens_) > 0.25 && holes > 2) ||
                        (10 * s.free_pages < total && holes > 0);
    expect(store_.should_defragment() == should, "should_defragment is wrong");
  }

  template <class T>
  bool refuse(const result<T>& answer, errc code, std::uint64_t first, std::uint64_t second) {
    ++refusals_;
    if (answer)
      complain("was done but must be refused as " + std::string(errc_name(code)));
    else if (answer.error().code != code)
      complain("refused as " + std::string(errc_name(answer.error().code)) + ", not " +
               std::string(errc_name(code)));
    else if (answer.error().numbers != std::array<std::uint64_t, 2>{first, second})
      complain("refused with the wrong figures");
    return answer.has_value();
  }
  template <class T>
  bool accept(const result<T>& answer) {
    if (!answer) complain("was refused: " + answer.error().message);
    return answer.has_value();
  }

  /// A live sequence, or now and then one that is gone.
  sequence_id pick() {
    if (sequences_.empty() || below(40) == 0) return sequence_id{last_id_ + 1000000 + below(3)};
    auto at = sequences_.begin();
    std::advance(at, below(static_cast<std::uint32_t>(sequences_.size())));
    return sequence_id{at->first};
  }
  model_sequence* find(sequence_id id) {
    const auto found = sequences_.find(to_index(id));
    return found == sequences_.end() ? nullptr : &found->second;
  }

  model_sequence& add(sequence_id id) {
    expect(to_index(id) > last_id_, "an id does not rise");
    last_id_ = to_index(id);
    ++allocated_;
    return sequences_[last_id_];
  }
  void append_pages(model_sequence& s, std::uint64_t count) {
    for (; count > 0; --count) s.pages.push_back(++last_page_);
  }

  std::mt19937 random_;
  std::uint32_t page_tokens_;
  page_store store_;
  content memory_;  ///< [page][token], as the copies and writes leave it
  std::map<std::uint64_t, model_sequence> sequences_;
  std::vector<outside_reference> outside_;
  std::vector<page_id> leased_;  ///< one entry per lease
  std::vector<page_copy> copies_;
  std::string name_;
  std::string problem_;
  std::uint64_t free_before_ = 0;
  std::uint64_t last_id_ = 0;
  std::uint64_t last_page_ = 0;
  std::uint64_t last_value_ = 0;
  std::uint64_t allocated_ = 0;
  std::uint64_t freed_ = 0;
  std::uint64_t num_hogs_ = 0;
  std::uint64_t cow_ = 0;
  std::uint64_t moves_ = 0;
  std::uint64_t defragmented_ = 0;
  std::uint64_t refusals_ = 0;
};

}  // namespace quire::testing
