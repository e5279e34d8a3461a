// A naive model of the page store beside a real one: every operation runs on both, then everything
// that can be seen is compared.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/memory/page_store_model_state.hpp"

namespace quire::testing {

class page_store_model : private page_store_model_state {
 public:
  page_store_model(std::uint32_t seed, std::uint32_t pages, std::uint32_t page_tokens)
      : page_store_model_state(seed, pages, page_tokens) {}

  /// Runs one random operation. With `starved` it runs while no page is free. Returns what differs
  /// between model and store, or nothing.
  std::string step(bool starved) {
    problem_.clear();
    std::optional<sequence_id> hog;
    if (starved) hog = store_.allocate(std::uint64_t{store_.free_pages()} * page_tokens_).value();
    free_before_ = store_.free_pages();
    copies_.clear();
    const std::string before = describe();
    const bool refused = !run(below(100));
    if (refused && describe() != before) complain("a refused operation changed the state");
    if (refused && !copies_.empty()) complain("a refused operation asked for copies");
    apply_copies();
    if (hog) store_.free(*hog);
    num_hogs_ += hog ? 1u : 0u;
    compare();
    return problem_.empty() ? problem_ : name_ + ": " + problem_;
  }

  std::uint64_t refusals() const { return refusals_; }
  std::uint64_t moves() const { return moves_; }

 private:
  // Operations: true when the store did it, false when it refused as the model expects.

  bool run(std::uint32_t dice) {
    if (dice < 12) return allocate();
    if (dice < 16) return allocate_shared();
    if (dice < 26) return extend();
    if (dice < 46) return update();
    if (dice < 51) return truncate();
    if (dice < 57) return fork();
    if (dice < 75) return free();
    if (dice < 81) return write();
    if (dice < 83) return read();
    if (dice < 88) return compact();
    if (dice < 92) return defragment();
    if (dice < 95) return lease();
    if (dice < 99) return retain();
    return resize();
  }

  bool allocate() {
    name_ = "allocate";
    const std::uint64_t tokens = below(6 * page_tokens_);
    const auto answer = store_.allocate(tokens);
    const std::uint64_t needed = ceil_pages(tokens);
    if (needed > free_before_) return refuse(answer, errc::out_of_pages, needed, free_before_);
    if (accept(answer)) append_pages(add(*answer), needed);
    return true;
  }

  bool allocate_shared() {
    name_ = "allocate_shared";
    std::vector<page_id> prefix;
    model_sequence made;
    for (const outside_reference& held : outside_) {
      if (below(2) == 0 || std::count(prefix.begin(), prefix.end(), held.physical) > 0) continue;
      prefix.push_back(held.physical);
      made.pages.push_back(held.page);
      made.values.insert(made.values.end(), held.values.begin(), held.values.end());
    }
    const std::uint64_t tokens = below(8 * page_tokens_);
    const auto answer = store_.allocate_shared(prefix, tokens);
    const std::uint64_t wanted = ceil_pages(tokens);
    const std::uint64_t needed = wanted > prefix.size() ? wanted - prefix.size() : 0;
    if (needed > free_before_) return refuse(answer, errc::out_of_pages, needed, free_before_);
    append_pages(made, needed);
    if (accept(answer)) add(*answer) = made;
    return true;
  }

  bool extend() {
    name_ = "extend";
    const sequence_id id = pick();
    const std::uint64_t tokens = below(3 * page_tokens_);
    model_sequence* s = find(id);
    const auto answer = store_.extend(id, tokens);
    if (s == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    const std::uint64_t wanted = ceil_pages(s->values.size() + tokens);
    const std::uint64_t missing = wanted > s->pages.size() ? wanted - s->pages.size() : 0;
    if (missing > free_before_) return refuse(answer, errc::out_of_pages, missing, free_before_);
    if (accept(answer)) append_pages(*s, missing);
    return true;
  }

  bool update() {
    name_ = "update_tokens";
    const sequence_id id = pick();
    model_sequence* s = find(id);
    const std::uint64_t room = s == nullptr ? 0 : s->pages.size() * page_tokens_;
    const std::uint64_t tokens = below(static_cast<std::uint32_t>(room) + 2);
    const auto answer = store_.update_tokens(id, tokens, copies_);
    if (s == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    if (tokens > room) return refuse(answer, errc::out_of_bounds, tokens, room);
    if (tokens <= s->values.size()) {
      s->values.resize(tokens);
      return accept(answer);
    }
    std::vector<std::size_t> shared;
    for (std::size_t i = s->values.size() / page_tokens_; i < ceil_pages(tokens); ++i)
      if (is_shared(s->pages[i])) shared.push_back(i);
    if (shared.size() > free_before_)
      return refuse(answer, errc::out_of_pages, shared.size(), free_before_);
    for (const std::size_t i : shared) s->pages[i] = ++last_page_;
    cow_ += shared.size();
    if (!accept(answer)) return true;
    apply_copies();
    for (std::uint64_t at = s->values.size(); at < tokens; ++at) {
      s->values.push_back(++last_value_);
      memory_[store_.slot(id, at).value()] = last_value_;
    }
    return true;
  }

  bool truncate() {
    name_ = "truncate";
    const sequence_id id = pick();
    model_sequence* s = find(id);
    const std::uint64_t stored = s == nullptr ? 0 : s->values.size();
    const std::uint64_t tokens = below(static_cast<std::uint32_t>(stored) + 2);
    const auto answer = store_.truncate(id, tokens);
    if (s == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    if (tokens > stored) return refuse(answer, errc::out_of_bounds, tokens, stored);
    s->values.resize(tokens);
    s->pages.resize(ceil_pages(tokens));
    return accept(answer);
  }

  bool fork() {
    name_ = "fork";
    const sequence_id id = pick();
    const auto answer = store_.fork(id);
    if (find(id) == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    ++cow_;
    const model_sequence copy = *find(id);
    if (accept(answer)) add(*answer) = copy;
    return true;
  }

  bool free() {
    name_ = "free";
    const sequence_id id = pick();
    store_.free(id);
    freed_ += sequences_.erase(to_index(id));
    return true;
  }

  bool write() {
    name_ = "page_for_writing";
    const sequence_id id = pick();
    model_sequence* s = find(id);
    const std::uint64_t at =
        below(s == nullptr ? 9 : static_cast<std::uint32_t>(s->pages.size() * page_tokens_) + 1);
    const auto answer = store_.page_for_writing(id, at);
    if (s == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    const std::size_t index = at / page_tokens_;
    if (index >= s->pages.size()) return refuse(answer, errc::invalid_page_access, index, at);
    if (is_shared(s->pages[index])) {
      if (free_before_ == 0) return refuse(answer, errc::out_of_pages, 1, 0);
      s->pages[index] = ++last_page_;
      ++cow_;
    } else {
      expect(!answer || !answer->copy, "copies a page of its own");
    }
    if (!accept(answer)) return true;
    if (answer->copy) copies_.push_back(*answer->copy);
    apply_copies();
    if (at >= s->values.size()) return true;
    s->values[at] = ++last_value_;
    memory_[store_.slot(id, at).value()] = last_value_;
    return true;
  }

  bool read() {
    name_ = "page_for_reading";
    const sequence_id id = pick();
    const model_sequence* s = find(id);
    const std::uint64_t at = below(6 * page_tokens_);
    const auto answer = store_.page_for_reading(id, at);
    const auto slot = store_.slot(id, at);
    if (s == nullptr) return refuse(answer, errc::sequence_not_found, to_index(id), 0);
    const std::uint64_t index = at / page_tokens_;
    if (index < s->pages.size()) {
      expect(answer && slot && *slot / page_tokens_ == to_index(answer->page) &&
                 *slot % page_tokens_ == at % page_tokens_,
             "slot and page disagree");
      return accept(answer);
    }
    refuse(slot, errc::out_of_bounds, at, s->pages.size() * page_tokens_);
    return refuse(answer, errc::invalid_page_access, index, at);
  }

  bool compact() {
    name_ = "compact";
    const sequence_id id = pick();
    const double before = store_.contiguity(id).value_or(1.0);
    const std::uint32_t moved = store_.compact(id, copies_);
    follow_moves(moved);
    expect(store_.contiguity(id).value_or(1.0) >= before, "made a table less adjacent");
    return true;
  }

  bool defragment() {
    name_ = "defragment";
    const std::uint32_t limit = below(7);
    const std::uint32_t moved = store_.defragment(limit, copies_);
    expect(moved <= limit, "moved more than it may");
    defragmented_ += moved > 0 ? 1u : 0u;
    follow_moves(moved);
    return true;
  }

  void follow_moves(std::uint32_t moved) {
    const auto moves = store_.take_moves();
    expect(moves.size() == moved, "the list of moves is not what was moved");
    moves_ += moved;
    for (const auto& [from, to] : moves) {
      for (const page_id leased : leased_)
        expect(leased != from && leased != to, "touched a leased page");
      for (outside_reference& held : outside_)
        if (held.physical == from) held.physical = to;
    }
  }

  bool lease() {
    name_ = "lease";
    if (!leased_.empty() && below(2) == 0) {
      const std::vector<page_id> all(leased_.begin(), leased_.end());
      store_.unlease(all);
      leased_.clear();
      return true;
    }
    const auto table = store_.table(pick());
    if (!table) return true;
    store_.lease(*table);
    leased_.insert(leased_.end(), table->begin(), table->end());
    return true;
  }

  bool retain() {
    name_ = "retain";
    if (!outside_.empty() && below(2) == 0) {
      const std::size_t at = below(static_cast<std::uint32_t>(outside_.size()));
      store_.release(outside_[at].physical);
      outside_.erase(outside_.begin() + static_cast<std::ptrdiff_t>(at));
      return true;
    }
    const sequence_id id = pick();
    const model_sequence* s = find(id);
    if (s == nullptr || s->values.size() < page_tokens_) return true;
    const std::uint32_t index = below(static_cast<std::uint32_t>(s->values.size() / page_tokens_));
    const auto from = s->values.begin() + std::ptrdiff_t{index} * page_tokens_;
    outside_.push_back(
        {s->pages[index], store_.table(id).value()[index], content(from, from + page_tokens_)});
    store_.retain(outside_.back().physical);
    return true;
  }

  bool resize() {
    name_ = "resize";
    const std::uint32_t before = store_.num_pages();
    const std::uint32_t limit = static_cast<std::uint32_t>(memory_.size() / page_tokens_) * 3 / 4;
    const std::uint32_t wanted = 8 + below(limit - 8);
    const std::uint32_t after = store_.resize(wanted);
    expect(after == store_.num_pages(), "answers another number of pages than it has");
    expect(wanted >= before ? after == wanted : after >= wanted && after <= before,
           "grew or shrank wrongly");
    return true;
  }
};

}  // namespace quire::testing
