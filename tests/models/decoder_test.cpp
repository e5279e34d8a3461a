// Expectations: tests/golden/tiny_models.py, float64 numpy written from the papers.
#include "models/decoder.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "memory/page_pool.hpp"
#include "models/gguf.hpp"
#include "tests/support/catch.hpp"

using namespace quire;

namespace {

struct golden {
  std::vector<token_id> tokens;
  std::vector<std::uint32_t> rows;
  std::vector<std::vector<double>> logits;
};

golden read_golden(const std::string& name) {
  std::ifstream in(std::string(QUIRE_SOURCE_DIR "/tests/golden/tiny_") + name + ".json");
  const auto json = nlohmann::json::parse(in);
  golden out;
  for (const auto& token : json["tokens"])
    out.tokens.push_back(token_id{token.get<std::uint32_t>()});
  out.rows = json["rows"].get<std::vector<std::uint32_t>>();
  out.logits = json["logits"].get<std::vector<std::vector<double>>>();
  return out;
}

// A tiny model with a pool of shuffled pages, on one ISA.
struct fixture {
  fixture(const std::string& name, const kernel_table* kernels, kv_type type,
          std::size_t num_threads = 2, bool row_independent = false)
      : threads(num_threads), context{kernels, &threads, row_independent} {
    auto opened = gguf_file::open(QUIRE_SOURCE_DIR "/tests/golden/tiny_" + name + ".gguf");
    REQUIRE(opened);
    auto read = read_model_config(*opened);
    REQUIRE(read);
    config = *read;
    auto loaded = load_weights(context, *opened, config);
    INFO((loaded ? std::string() : loaded.error().message));
    REQUIRE(loaded);
    weights = std::move(*loaded);
    auto made = kv_layout::make(static_cast<std::uint32_t>(config.layers.size()), config.kv_heads,
                                config.head_dim, 16, type, type);
    REQUIRE(made);
    layout = *made;
    auto region = page_pool::make(layout, 16);
    REQUIRE(region);
    pool = std::make_unique<page_pool>(std::move(*region));
    model = std::make_unique<decoder>(context, config, weights);
  }

  // Runs tokens [from, to) of one sequence and returns the logits of the wanted rows of that range.
  std::vector<std::vector<float>> run(const golden& g, std::uint32_t from, std::uint32_t to) {
    static const std::vector<page_id> table = {page_id{7}, page_id{2}, page_id{11}};
    const attention_sequence sequence{table, from, to - from, 0};
    std::vector<std::uint32_t> wanted;
    for (const std::uint32_t row : g.rows)
      if (row >= from && row < to) wanted.push_back(row - from);
    const auto hidden =
        model->forward({std::span(g.tokens).subspan(from, to - from), {&sequence, 1}, wanted},
                       pool->data(), layout);
    std::vector<float> flat(wanted.size() * config.vocabulary);
    if (!wanted.empty()) model->project(hidden, wanted.size(), flat);
    std::vector<std::vector<float>> out;
    for (std::size_t i = 0; i < wanted.size(); ++i)
      out.emplace_back(flat.begin() + static_cast<std::ptrdiff_t>(i * config.vocabulary),
                       flat.begin() + static_cast<std::ptrdiff_t>((i + 1) * config.vocabulary));
    return out;
  }

  arena threads;
  compute_context context;
  model_config config;
  model_weights weights;
  kv_layout layout;
  std::unique_ptr<page_pool> pool;
  std::unique_ptr<decoder> model;
};

double largest_difference(const std::vector<std::vector<float>>& actual,
                          const std::vector<std::vector<double>>& expected) {
  REQUIRE(actual.size() == expected.size());
  double worst = 0;
  for (std::size_t r = 0; r < actual.size(); ++r)
    for (std::size_t i = 0; i < actual[r].size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(actual[r][i]) - expected[r][i]));
  return worst;
}

// Weights and activations are f32 (or f16 weights, exact in f32): errors of 1e-7 relative per
// operation, a few hundred operations deep, on logits of order 10.
constexpr double f32_tolerance = 5e-4;

}  // namespace

TEST_CASE("tiny models give the reference logits on every ISA", "[models][isa]") {
  for (const std::string name : {"llama", "gemma3"}) {
    const golden g = read_golden(name);
    for (const kernel_table* kernels : runnable_kernels()) {
      INFO(name << " on " << isa_name(*kernels));
      fixture f(name, kernels, kv_type::f32);
      CHECK(largest_difference(f.run(g, 0, 40), g.logits) < f32_tolerance);
    }
  }
}

TEST_CASE("chunked prefill and single steps give the logits of one shot", "[models]") {
  for (const std::string name : {"llama", "gemma3"}) {
    const golden g = read_golden(name);
    fixture f(name, runnable_kernels().front(), kv_type::f32);
    std::vector<std::vector<float>> all;
    for (const auto& [from, to] :
         {std::pair{0u, 5u}, {5u, 17u}, {17u, 36u}, {36u, 37u}, {37u, 38u}, {38u, 39u}, {39u, 40u}})
      for (auto& row : f.run(g, from, to)) all.push_back(std::move(row));
    INFO(name);
    CHECK(largest_difference(all, g.logits) < f32_tolerance);
  }
}

TEST_CASE("threads that share weights and threads that take rows get the same logits",
          "[models][isa]") {
  // 40 rows: one and two threads take blocks of rows, seven have too few for that.
  for (const std::string name : {"llama", "gemma3"}) {
    const golden g = read_golden(name);
    for (const kernel_table* kernels : runnable_kernels()) {
      INFO(name << " on " << isa_name(*kernels));
      const auto shared = fixture(name, kernels, kv_type::q8, 7, true).run(g, 0, 40);
      for (const std::size_t num_threads : {1, 2, 5})
        CHECK(fixture(name, kernels, kv_type::q8, num_threads, true).run(g, 0, 40) == shared);
    }
  }
}

TEST_CASE("quantized keys and values stay near the reference logits", "[models]") {
  // Logits have a standard deviation of about 1.5 here; f16 keeps 11 bits and q8 about 7 of each
  // value, which attention averages.
  const golden g = read_golden("llama");
  fixture half_precision("llama", runnable_kernels().front(), kv_type::f16);
  CHECK(largest_difference(half_precision.run(g, 0, 40), g.logits) < 0.02);
  fixture eight_bits("llama", runnable_kernels().front(), kv_type::q8);
  CHECK(largest_difference(eight_bits.run(g, 0, 40), g.logits) < 0.2);
}

TEST_CASE("sequences in one batch do not disturb each other", "[models]") {
  const golden g = read_golden("gemma3");
  fixture f("gemma3", runnable_kernels().front(), kv_type::f32);
  const std::vector<page_id> first = {page_id{0}, page_id{5}, page_id{3}};
  const std::vector<page_id> second = {page_id{9}, page_id{1}, page_id{8}};
  // The second sequence holds the first 24 tokens already; the first one starts from nothing.
  const attention_sequence warm{second, 0, 24, 0};
  f.model->forward({std::span(g.tokens).first(24), {&warm, 1}, {}}, f.pool->data(), f.layout);
  std::vector<token_id> tokens(g.tokens.begin(), g.tokens.end());
  tokens.insert(tokens.end(), g.tokens.begin() + 24, g.tokens.end());
  const attention_sequence both[] = {{first, 0, 40, 0}, {second, 24, 16, 40}};
  const std::vector<std::uint32_t> wanted = {39, 55};
  const auto hidden = f.model->forward({tokens, both, wanted}, f.pool->data(), f.layout);
  std::vector<float> flat(2 * f.config.vocabulary);
  f.model->project(hidden, 2, flat);
  for (std::size_t i = 0; i < f.config.vocabulary; ++i) {
    CHECK(static_cast<double>(flat[i]) == Approx(g.logits.back()[i]).margin(f32_tolerance));
    CHECK(static_cast<double>(flat[f.config.vocabulary + i]) ==
          Approx(g.logits.back()[i]).margin(f32_tolerance));
  }
}

TEST_CASE("a wanted row is the same whichever others are wanted", "[models]") {
  const std::vector<page_id> tables[] = {{page_id{0}, page_id{5}, page_id{3}},
                                         {page_id{9}, page_id{1}, page_id{8}},
                                         {page_id{4}, page_id{2}, page_id{6}}};
  for (const std::string name : {"llama", "gemma3"}) {
    const golden g = read_golden(name);
    fixture f(name, runnable_kernels().front(), kv_type::f32);
    std::vector<token_id> tokens;
    std::vector<attention_sequence> sequences;
    for (const auto& table : tables) {
      sequences.push_back({table, 0, 40, static_cast<std::uint32_t>(tokens.size())});
      tokens.insert(tokens.end(), g.tokens.begin(), g.tokens.end());
    }
    // Of the three copies one has no wanted row, one has one and one has two.
    for (std::size_t i = 0; i < g.rows.size(); ++i)
      for (const std::uint32_t idle : {0u, 1u, 2u}) {
        const std::uint32_t one = (idle + 1) % 3;
        const std::uint32_t two = (idle + 2) % 3;
        std::vector<std::pair<std::uint32_t, std::size_t>> wanted = {{40 * one + g.rows[i], i},
                                                                     {40 * two + g.rows[i], i}};
        if (i + 1 < g.rows.size()) wanted.push_back({40 * two + g.rows[i + 1], i + 1});
        std::sort(wanted.begin(), wanted.end());
        std::vector<std::uint32_t> rows;
        for (const auto& [row, at] : wanted) rows.push_back(row);
        const auto hidden = f.model->forward({tokens, sequences, rows}, f.pool->data(), f.layout);
        std::vector<float> flat(rows.size() * f.config.vocabulary);
        f.model->project(hidden, rows.size(), flat);
        INFO(name << ", idle " << idle << ", row " << g.rows[i]);
        for (std::size_t w = 0; w < wanted.size(); ++w) {
          double worst = 0;
          for (std::size_t v = 0; v < f.config.vocabulary; ++v)
            worst =
                std::max(worst, std::abs(static_cast<double>(flat[w * f.config.vocabulary + v]) -
                                         g.logits[wanted[w].second][v]));
          CHECK(worst < f32_tolerance);
        }
      }
  }
}
