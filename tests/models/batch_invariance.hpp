// Runs random requests through a decoder in many ways: alone, in large batches, in chunks of random
// sizes, behind prefixes that others have computed. What they must agree on needs no oracle: the
// bits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "compute/context.hpp"
#include "memory/page_pool.hpp"
#include "models/decoder.hpp"
#include "models/gguf.hpp"
#include "tests/support/catch.hpp"

namespace quire::testing {

/// How one run cuts and mixes its requests.
struct run_shape {
  std::size_t batch = 1;            ///< sequences in a step at most
  std::uint32_t longest_chunk = 0;  ///< chunks of 1 to this many tokens; 0: every prompt at once
  bool reuse = false;               ///< prefixes are read from pages that another sequence wrote
};

/// Bounds of random requests.
struct request_bounds {
  std::size_t count = 200;
  std::uint32_t longest = 150;       ///< tokens behind the prefix
  std::uint32_t longest_prefix = 4;  ///< pages
};

class invariance_subject {
 public:
  /// The last tokens of every request whose logits are compared.
  static constexpr std::uint32_t num_scored = 2;

  invariance_subject(const std::filesystem::path& model, const kernel_table* kernels, kv_type type,
                     const request_bounds& bounds, unsigned seed, bool invariant = true)
      : threads_(1), context_{kernels, &threads_, invariant}, random_(seed) {
    auto opened = gguf_file::open(model);
    REQUIRE(opened);
    auto config = read_model_config(*opened);
    REQUIRE(config);
    config_ = *config;
    auto weights = load_weights(context_, *opened, config_);
    REQUIRE(weights);
    weights_ = std::move(*weights);
    layout_ = kv_layout::make(static_cast<std::uint32_t>(config_.layers.size()), config_.kv_heads,
                              config_.head_dim, page_tokens, type, type)
                  .value();
    make_requests(bounds);
    decoder_ = std::make_unique<decoder>(context_, config_, weights_);
  }

  /// Returns the logits of every request's last tokens, (num_scored, vocabulary) each.
  std::vector<std::vector<float>> run(const run_shape& shape) {
    pool_ = std::make_unique<page_pool>(page_pool::make(layout_, num_pages_).value());
    std::vector<page_id> pages(num_pages_);
    for (std::uint32_t i = 0; i < num_pages_; ++i) pages[i] = page_id{i};
    std::shuffle(pages.begin(), pages.end(), random_);
    auto free = pages.begin();
    std::vector<progress> prefixes(prefixes_.size());
    for (std::size_t i = 0; i < prefixes_.size(); ++i) {
      prefixes[i].tokens = &prefixes_[i];
      take_pages(prefixes[i], free);
    }
    if (shape.reuse) drive(prefixes, shape);
    std::vector<progress> all(requests_.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].tokens = &requests_[i].tokens;
      if (shape.reuse) {
        const progress& prefix = prefixes[requests_[i].prefix];
        all[i].table = prefix.table;
        all[i].done = static_cast<std::uint32_t>(prefix.tokens->size());
      }
      take_pages(all[i], free);
    }
    drive(all, shape);
    std::vector<std::vector<float>> logits;
    for (progress& each : all) logits.push_back(std::move(each.logits));
    return logits;
  }

  std::size_t num_requests() const { return requests_.size(); }

 private:
  static constexpr std::uint32_t page_tokens = 16;

  struct request {
    std::vector<token_id> tokens;  // the prefix's and its own
    std::size_t prefix = 0;
  };

  // One sequence under way.
  struct progress {
    const std::vector<token_id>* tokens = nullptr;
    std::vector<page_id> table;
    std::uint32_t done = 0;
    std::vector<float> logits;
  };

  std::uint32_t between(std::uint32_t low, std::uint32_t high) {
    return std::uniform_int_distribution<std::uint32_t>(low, high)(random_);
  }

  void make_requests(const request_bounds& bounds) {
    const auto extend = [&](std::vector<token_id>& tokens, std::uint32_t n) {
      for (std::uint32_t i = 0; i < n; ++i)
        tokens.push_back(token_id{between(0, config_.vocabulary - 1)});
    };
    constexpr std::size_t num_prefixes = 5;  // the first is empty
    prefixes_.resize(num_prefixes);
    for (std::size_t i = 1; i < num_prefixes; ++i)
      extend(prefixes_[i], page_tokens * between(1, bounds.longest_prefix));
    for (const auto& prefix : prefixes_) num_pages_ += pages_of(prefix);
    for (std::size_t i = 0; i < bounds.count; ++i) {
      request made;
      made.prefix = between(0, num_prefixes - 1);
      made.tokens = prefixes_[made.prefix];
      extend(made.tokens, between(num_scored, bounds.longest));
      num_pages_ += pages_of(made.tokens);
      requests_.push_back(std::move(made));
    }
  }

  static std::uint32_t pages_of(const std::vector<token_id>& tokens) {
    return (static_cast<std::uint32_t>(tokens.size()) + page_tokens - 1) / page_tokens;
  }

  void take_pages(progress& each, std::vector<page_id>::iterator& free) const {
    while (each.table.size() < pages_of(*each.tokens)) each.table.push_back(*free++);
  }

  // Runs sequences to their ends, as many at once as the shape allows, in random order.
  void drive(std::vector<progress>& all, const run_shape& shape) {
    std::vector<std::size_t> waiting(all.size());
    std::iota(waiting.begin(), waiting.end(), std::size_t{0});
    std::shuffle(waiting.begin(), waiting.end(), random_);
    std::vector<std::size_t> running;
    while (!waiting.empty() || !running.empty()) {
      while (!waiting.empty() && running.size() < shape.batch) {
        running.push_back(waiting.back());
        waiting.pop_back();
      }
      std::shuffle(running.begin(), running.end(), random_);
      step(all, running, shape);
      std::erase_if(running, [&](std::size_t i) { return all[i].done == all[i].tokens->size(); });
    }
  }

  void step(std::vector<progress>& all, const std::vector<std::size_t>& running,
            const run_shape& shape) {
    std::vector<token_id> tokens;
    std::vector<attention_sequence> sequences;
    std::vector<std::uint32_t> wanted;
    std::vector<std::size_t> owners;
    for (const std::size_t i : running) {
      progress& each = all[i];
      const auto left = static_cast<std::uint32_t>(each.tokens->size()) - each.done;
      const std::uint32_t n =
          shape.longest_chunk == 0 ? left : std::min(left, between(1, shape.longest_chunk));
      if (n == 0) continue;
      const auto first_row = static_cast<std::uint32_t>(tokens.size());
      sequences.push_back({each.table, each.done, n, first_row});
      for (std::uint32_t t = 0; t < n; ++t) {
        tokens.push_back((*each.tokens)[each.done + t]);
        if (each.done + t + num_scored >= each.tokens->size()) {
          wanted.push_back(first_row + t);
          owners.push_back(i);
        }
      }
      each.done += n;
    }
    if (tokens.empty()) return;
    const auto hidden = decoder_->forward({tokens, sequences, wanted}, pool_->data(), layout_);
    std::vector<float> logits(wanted.size() * config_.vocabulary);
    if (!wanted.empty()) decoder_->project(hidden, wanted.size(), logits);
    for (std::size_t r = 0; r < owners.size(); ++r)
      all[owners[r]].logits.insert(
          all[owners[r]].logits.end(),
          logits.begin() + static_cast<std::ptrdiff_t>(r * config_.vocabulary),
          logits.begin() + static_cast<std::ptrdiff_t>((r + 1) * config_.vocabulary));
  }

  arena threads_;
  compute_context context_;
  std::mt19937 random_;
  model_config config_;
  model_weights weights_;
  kv_layout layout_;
  std::vector<std::vector<token_id>> prefixes_;
  std::vector<request> requests_;
  std::uint32_t num_pages_ = 0;
  std::unique_ptr<page_pool> pool_;
  std::unique_ptr<decoder> decoder_;
};

/// The ways of computing that must agree with one request at a time, each prompt at once.
inline const std::vector<run_shape>& other_ways() {
  static const std::vector<run_shape> ways{
      {.batch = 64},
      {.batch = 1, .longest_chunk = 40},
      {.batch = 64, .longest_chunk = 33},
      {.batch = 64, .longest_chunk = 2},
      {.batch = 1, .reuse = true},
      {.batch = 64, .longest_chunk = 70, .reuse = true},
  };
  return ways;
}

/// Returns how many requests have other logits in `a` than in `b`.
inline std::size_t num_different(const std::vector<std::vector<float>>& a,
                                 const std::vector<std::vector<float>>& b) {
  REQUIRE(a.size() == b.size());
  std::size_t different = 0;
  for (std::size_t i = 0; i < a.size(); ++i) different += a[i] == b[i] ? 0u : 1u;
  return different;
}

}  // namespace quire::testing
