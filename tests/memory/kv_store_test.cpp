// The store with its data. Expectations: the bounds of the formats (q8 max|v| / 254 per block, q4
// max|v| / 14), IEEE arithmetic, and a model that keeps each sequence's rows apart.
#include "memory/kv_store.hpp"

#include <bit>
#include <cmath>
#include <map>
#include <random>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

using row = std::vector<float>;

kv_store make_store(kv_type type_k, kv_type type_v, std::uint32_t num_pages = 8,
                    std::uint32_t head_dim = 64, std::uint32_t heads = 2,
                    std::uint32_t page_tokens = 16) {
  const auto layout = kv_layout::make(2, heads, head_dim, page_tokens, type_k, type_v);
  return std::move(*kv_store::make(*layout, num_pages));
}

row get(kv_store& store, sequence_id id, std::uint64_t position, kv_row where) {
  row values(store.layout().head_dim, -1.0f);
  REQUIRE(store.get(id, position, where, values).has_value());
  return values;
}

/// The largest error that a block of 32 values may show, and what rounding to f32 adds to it.
float bound_of(kv_type type, std::span<const float> block) {
  float most = 0.0f;
  for (const float v : block) most = std::max(most, std::fabs(v));
  return most / (type == kv_type::q8 ? 254.0f : 14.0f) + most * 0x1p-22f;
}

enum class shape { random, constant, tiny, huge, mixed };

row make_row(shape kind, std::size_t size, std::mt19937& random) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  row values(size);
  for (std::size_t i = 0; i < size; ++i) {
    const float v = normal(random);
    switch (kind) {
      case shape::random:
        values[i] = v;
        break;
      case shape::constant:
        values[i] = -2.75f;
        break;
      case shape::tiny:
        values[i] = v * 1e-4f;
        break;
      case shape::huge:
        values[i] = v * 3e4f;
        break;
      case shape::mixed:
        values[i] = i % 32 == 5 ? v * 100.0f : v * 0.01f;
        break;
    }
  }
  return values;
}

}  // namespace

TEST_CASE("f32 rows read back bit for bit", "[memory]") {
  kv_store store = make_store(kv_type::f32, kv_type::f32);
  const sequence_id id = store.allocate(16).value();
  row values = {0.0f, -0.0f, 1.0f, -1.5f, 3.4028235e38f, 1.17549435e-38f, 1e-45f, 0.1f};
  std::mt19937 random(1);
  while (values.size() < 64) values.push_back(static_cast<float>(random()) * 1e-9f - 2.0f);
  REQUIRE(store.put(id, 3, {1, kv_part::value, 1}, values).has_value());
  const row back = get(store, id, 3, {1, kv_part::value, 1});
  for (std::size_t i = 0; i < 64; ++i)
    REQUIRE(std::bit_cast<std::uint32_t>(back[i]) == std::bit_cast<std::uint32_t>(values[i]));
}

TEST_CASE("f16 rows read back to half precision", "[memory]") {
  kv_store store = make_store(kv_type::f16, kv_type::f16);
  const sequence_id id = store.allocate(16).value();
  std::mt19937 random(2);
  const row values = make_row(shape::random, 64, random);
  REQUIRE(store.put(id, 0, {}, values).has_value());
  const row back = get(store, id, 0, {});
  for (std::size_t i = 0; i < 64; ++i)
    REQUIRE(std::fabs(back[i] - values[i]) <= std::fabs(values[i]) * 0x1p-11f + 0x1p-25f);
}

TEST_CASE("quantized rows stay within half a step of their block", "[memory]") {
  const auto type = GENERATE(kv_type::q8, kv_type::q4);
  const auto kind =
      GENERATE(shape::random, shape::constant, shape::tiny, shape::huge, shape::mixed);
  const auto head_dim = GENERATE(32u, 64u, 40u, 128u);
  kv_store store = make_store(type, type, 8, head_dim);
  const sequence_id id = store.allocate(128).value();
  std::mt19937 random(3);
  for (std::uint64_t position = 0; position < 100; ++position) {
    const row values = make_row(kind, head_dim, random);
    REQUIRE(store.put(id, position, {0, kv_part::key, 1}, values).has_value());
    const row back = get(store, id, position, {0, kv_part::key, 1});
    for (std::size_t begin = 0; begin < head_dim; begin += 32) {
      const std::size_t count = std::min<std::size_t>(32, head_dim - begin);
      const float bound = bound_of(type, std::span(values).subspan(begin, count));
      for (std::size_t i = begin; i < begin + count; ++i) {
        CAPTURE(position, i, values[i], back[i], bound);
        REQUIRE(std::fabs(back[i] - values[i]) <= bound);
      }
    }
  }
}

TEST_CASE("blocks of zeros and of less than 1e-10 read back as exact zeros", "[memory]") {
  const auto type = GENERATE(kv_type::q8, kv_type::q4);
  const auto value = GENERATE(0.0f, 9e-11f, -9e-11f);
  kv_store store = make_store(type, type);
  const sequence_id id = store.allocate(16).value();
  REQUIRE(store.put(id, 0, {}, row(64, value)).has_value());
  for (const float v : get(store, id, 0, {})) REQUIRE(v == 0.0f);
}

TEST_CASE("a row that was never put reads as zeros", "[memory]") {
  const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4);
  kv_store store = make_store(type, type);
  const sequence_id id = store.allocate(16).value();
  for (const float v : get(store, id, 5, {})) REQUIRE(v == 0.0f);
  REQUIRE(store.put(id, 6, {}, row(64, 3.0f)).has_value());
  for (const float v : get(store, id, 5, {})) REQUIRE(v == 0.0f);
}

TEST_CASE("writing a token leaves its neighbours as they were", "[memory]") {
  const auto type = GENERATE(kv_type::q8, kv_type::q4);
  kv_store store = make_store(type, type);
  const sequence_id id = store.allocate(16).value();
  std::mt19937 random(4);
  std::vector<row> first;
  for (std::uint64_t t = 0; t < 16; ++t) {
    REQUIRE(store.put(id, t, {}, make_row(shape::random, 64, random)).has_value());
    first.push_back(get(store, id, t, {}));
  }
  REQUIRE(store.put(id, 7, {}, make_row(shape::huge, 64, random)).has_value());
  for (std::uint64_t t = 0; t < 16; ++t)
    if (t != 7) REQUIRE(get(store, id, t, {}) == first[t]);
}

TEST_CASE("values that are not finite are refused and change nothing", "[memory]") {
  const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4);
  const auto poison = GENERATE(NAN, INFINITY, -INFINITY);
  kv_store store = make_store(type, type);
  const sequence_id id = store.allocate(16).value();
  REQUIRE(store.put(id, 0, {}, row(64, 1.0f)).has_value());
  const row before = get(store, id, 0, {});
  row bad(64, 2.0f);
  bad[63] = poison;
  REQUIRE(store.put(id, 0, {}, bad).error().code == errc::invalid_argument);
  REQUIRE(store.put(id, 1, {}, bad).error().code == errc::invalid_argument);
  REQUIRE(get(store, id, 0, {}) == before);
  REQUIRE(store.pages().tokens(id) == 1);
}

TEST_CASE("rows that do not exist are refused", "[memory]") {
  kv_store store = make_store(kv_type::q8, kv_type::q8);
  const sequence_id id = store.allocate(16).value();
  const row values(64, 1.0f);
  row target(64);
  REQUIRE(store.put(id, 0, {2, kv_part::key, 0}, values).error().code == errc::invalid_argument);
  REQUIRE(store.put(id, 0, {0, kv_part::key, 2}, values).error().code == errc::invalid_argument);
  REQUIRE(store.put(id, 0, {}, row(63)).error().code == errc::invalid_argument);
  REQUIRE(store.get(id, 0, {2, kv_part::key, 0}, target).error().code == errc::invalid_argument);
  REQUIRE(store.put(id, 16, {}, values).error().code == errc::invalid_page_access);
  REQUIRE(store.put(id, 16, {}, values).error().numbers == std::array<std::uint64_t, 2>{1, 16});
  REQUIRE(store.get(id, 16, {}, target).error().code == errc::invalid_page_access);
  REQUIRE(store.put(sequence_id{99}, 0, {}, values).error().code == errc::sequence_not_found);
}

TEST_CASE("a page takes the bytes that its type allows", "[memory]") {
  const auto bytes = [](kv_type type) {
    return kv_layout::make(1, 8, 64, 16, type, type)->page_bytes;
  };
  REQUIRE(bytes(kv_type::f32) == 65536);
  REQUIRE(bytes(kv_type::f16) == 32768);
  REQUIRE(bytes(kv_type::q8) <= 18432);
  REQUIRE(bytes(kv_type::q4) <= 10240);
}

TEST_CASE("memory is reported in bytes and as a share of f32", "[memory]") {
  const auto [type, most] = GENERATE(table<kv_type, double>(
      {{kv_type::f32, 1.0}, {kv_type::f16, 0.5}, {kv_type::q8, 0.28125}, {kv_type::q4, 0.15625}}));
  const auto layout = kv_layout::make(1, 8, 64, 16, type, type);
  kv_store store = std::move(*kv_store::make(*layout, 10));
  REQUIRE(store.memory().ratio == 1.0);
  REQUIRE(store.memory().used_bytes == 0);
  REQUIRE(store.allocate(40).has_value());
  const kv_memory memory = store.memory();
  REQUIRE(memory.used_bytes == 3 * layout->page_bytes);
  REQUIRE(memory.capacity_bytes == 10 * layout->page_bytes);
  REQUIRE(memory.f32_bytes == 3 * 65536);
  REQUIRE(memory.ratio <= most);
  REQUIRE(memory.ratio > most * 0.8);
}

TEST_CASE("a store of no pages, and sizes that overflow", "[memory]") {
  kv_store empty = make_store(kv_type::q8, kv_type::q4, 0);
  REQUIRE(empty.pages().utilization_percent() == 0.0);
  REQUIRE(empty.memory().ratio == 1.0);
  REQUIRE(empty.trim() == 0);
  const auto wide =
      kv_layout::make(1u << 20, 1u << 10, 1u << 10, 1u << 10, kv_type::f32, kv_type::f32);
  if (wide) {
    REQUIRE_FALSE(kv_store::make(*wide, 1u << 26).has_value());
  }
  REQUIRE(
      kv_layout::make(UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, kv_type::f32, kv_type::f32)
          .error()
          .code == errc::invalid_argument);
}

TEST_CASE("a fork sees the same rows until one of the two writes", "[memory]") {
  kv_store store = make_store(kv_type::f32, kv_type::q8);
  const sequence_id a = store.allocate(32).value();
  for (std::uint64_t t = 0; t < 20; ++t)
    REQUIRE(store.put(a, t, {0, kv_part::key, 1}, row(64, static_cast<float>(t))).has_value());
  const sequence_id b = store.fork(a).value();
  REQUIRE(get(store, b, 18, {0, kv_part::key, 1})[0] == 18.0f);
  REQUIRE(store.put(b, 18, {0, kv_part::key, 1}, row(64, 500.0f)).has_value());
  REQUIRE(store.put(b, 20, {0, kv_part::key, 1}, row(64, 600.0f)).has_value());
  REQUIRE(get(store, a, 18, {0, kv_part::key, 1})[0] == 18.0f);
  REQUIRE(get(store, b, 18, {0, kv_part::key, 1})[0] == 500.0f);
  REQUIRE(get(store, b, 17, {0, kv_part::key, 1})[0] == 17.0f);
  REQUIRE(get(store, b, 20, {0, kv_part::key, 1})[0] == 600.0f);
  REQUIRE(get(store, a, 20, {0, kv_part::key, 1})[0] == 0.0f);
  REQUIRE(store.pages().tokens(a) == 20);
  REQUIRE(store.pages().stats().used_pages == 3);
}

TEST_CASE("a sequence never reads what another left in its pages", "[memory]") {
  kv_store store = make_store(kv_type::f32, kv_type::f32, 2);
  const sequence_id a = store.allocate(32).value();
  for (std::uint64_t t = 0; t < 32; ++t) REQUIRE(store.put(a, t, {}, row(64, 7.0f)).has_value());
  store.free(a);
  const sequence_id b = store.allocate(32).value();
  REQUIRE(store.update_tokens(b, 32).has_value());
  for (std::uint64_t t = 0; t < 32; ++t) REQUIRE(get(store, b, t, {}) == row(64, 0.0f));
  REQUIRE(store.put(b, 20, {}, row(64, 9.0f)).has_value());
  REQUIRE(store.truncate(b, 18).has_value());
  REQUIRE(store.update_tokens(b, 32).has_value());
  REQUIRE(get(store, b, 20, {}) == row(64, 0.0f));
}

TEST_CASE("trim after a burst gives memory back and keeps the rest intact", "[memory]") {
  kv_store store = make_store(kv_type::f32, kv_type::f32, 64);
  const sequence_id burst = store.allocate(60 * 16).value();
  const sequence_id small = store.allocate(16).value();
  for (std::uint64_t t = 0; t < 60 * 16; ++t)
    REQUIRE(store.put(burst, t, {}, row(64, 1.0f)).has_value());
  REQUIRE(store.put(small, 9, {1, kv_part::value, 1}, row(64, 5.0f)).has_value());
  store.free(burst);
  REQUIRE(store.pages().tail_begin() == 61);
  REQUIRE(store.defragment(1) == 1);
  REQUIRE(store.pages().tail_begin() == 1);
  REQUIRE(store.trim() >= 60 * store.layout().page_bytes);
  REQUIRE(get(store, small, 9, {1, kv_part::value, 1}) == row(64, 5.0f));
}

// Every row of every sequence against a model that copies whole sequences when they fork.
TEST_CASE("random operations keep every row of every sequence", "[memory]") {
  const auto type = GENERATE(kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4);
  std::mt19937 random(static_cast<std::uint32_t>(type) + 11);
  const auto below = [&random](std::uint64_t limit) {
    return limit == 0 ? 0 : static_cast<std::uint64_t>(random()) % limit;
  };
  constexpr std::uint32_t page_tokens = 4;
  kv_store store = make_store(type, type, 24, 32, 1, page_tokens);
  std::map<sequence_id, std::vector<std::array<float, 2>>> model;  // [token][key | value], layer 1
  // Constant rows, far enough apart for every type to tell them from each other.
  const auto distinct = [&] { return static_cast<float>(below(15)) * 222.0f; };
  const kv_row key{1, kv_part::key, 0};
  const kv_row value{1, kv_part::value, 0};
  for (int step = 0; step < 6000; ++step) {
    const sequence_id id =
        model.empty()
            ? sequence_id{}
            : std::next(model.begin(), static_cast<std::ptrdiff_t>(below(model.size())))->first;
    const std::uint64_t dice = below(100);
    if (model.empty() || dice < 10) {
      if (const auto made = store.allocate(below(20))) model[*made] = {};
    } else if (dice < 18) {
      if (const auto made = store.fork(id)) model[*made] = model[id];
    } else if (dice < 30) {
      store.free(id);
      model.erase(id);
    } else if (dice < 40) {
      (void)store.extend(id, below(9));
    } else if (dice < 50) {
      const std::uint64_t tokens = below(*store.pages().capacity(id) + 1);
      if (store.update_tokens(id, tokens)) model[id].resize(tokens);
    } else if (dice < 55) {
      const std::uint64_t tokens = below(model[id].size() + 1);
      REQUIRE(store.truncate(id, tokens).has_value());
      model[id].resize(tokens);
    } else if (dice < 85) {
      const std::uint64_t at = below(*store.pages().capacity(id));
      const std::array<float, 2> put{distinct(), distinct()};
      if (!store.put(id, at, key, row(32, put[0]))) continue;
      REQUIRE(store.put(id, at, value, row(32, put[1])).has_value());
      if (at >= model[id].size()) model[id].resize(at + 1);
      model[id][at] = put;
    } else if (dice < 92) {
      store.compact(id);
    } else {
      store.defragment(static_cast<std::uint32_t>(below(6)));
    }
    REQUIRE(store.check().has_value());
    std::size_t wrong = 0;
    row back(32);
    for (const auto& [which, tokens] : model) {
      for (std::uint64_t at = 0; at < *store.pages().capacity(which); ++at) {
        const std::array<float, 2> expected =
            at < tokens.size() ? tokens[at] : std::array<float, 2>{};
        const float tolerance = type == kv_type::f32 ? 0.0f : 1.0f / 254.0f;
        for (const auto& [where, v] :
             {std::pair(key, expected[0]), std::pair(value, expected[1])}) {
          REQUIRE(store.get(which, at, where, back).has_value());
          wrong += std::fabs(back[0] - v) > v * tolerance;
          wrong += back[31] != back[0];
        }
      }
    }
    CAPTURE(step, dice);
    REQUIRE(wrong == 0);
  }
  REQUIRE(store.pages().stats().pages_moved > 100);
}
