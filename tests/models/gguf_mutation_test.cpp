// Thousands of broken files: none may crash the reader or make it allocate out of proportion.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <random>
#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/exercise_gguf.hpp"
#include "tests/support/small_vocabulary.hpp"

namespace {

std::atomic<std::size_t> live_bytes{0};
std::atomic<std::size_t> peak_bytes{0};

void* allocate_or_null(std::size_t size) noexcept {
  void* block = std::malloc(size);
  if (block == nullptr) return nullptr;
  const std::size_t live = live_bytes += malloc_usable_size(block);
  std::size_t peak = peak_bytes;
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return block;
}

void* allocate(std::size_t size) {
  void* block = allocate_or_null(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void release(void* block) noexcept {
  if (block != nullptr) live_bytes -= malloc_usable_size(block);
  std::free(block);
}

}  // namespace

// All of this program's memory is counted, to see what a file makes the reader ask for.
void* operator new(std::size_t size) {
  return allocate(size);
}
void* operator new[](std::size_t size) {
  return allocate(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate_or_null(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return allocate_or_null(size);
}
void operator delete(void* block) noexcept {
  release(block);
}
void operator delete[](void* block) noexcept {
  release(block);
}
void operator delete(void* block, std::size_t) noexcept {
  release(block);
}
void operator delete[](void* block, std::size_t) noexcept {
  release(block);
}

using namespace quire;
using namespace quire::testing;

namespace {

/// Every kind of value, tensors of known and unknown types, and a tokenizer.
std::vector<std::string> whole_files() {
  const std::vector<std::uint64_t> matrix{32, 2};
  const std::vector<std::uint64_t> vector{8};
  const auto add_tensors = [&](gguf_writer writer) {
    writer.add_u64("u64", 1).add_f32("f32", 1.5f).add_bool("bool", true);
    writer.add_f32s("floats", std::vector<float>{1.0f, 2.0f});
    writer.add_tensor("matrix", matrix, 8, std::string(68, 'q'));
    writer.add_tensor("vector", vector, 0, std::string(32, 'f'));
    writer.add_tensor("other", vector, 777, "?");
    return writer.bytes();
  };
  auto byte_level = byte_level_vocabulary({{"a", "b"}, {"l", "l"}, {"ll", "o"}});
  byte_level.pre = "smollm";
  byte_level.add("<s>", control_kind);
  byte_level.add("lo", user_defined_kind);
  auto sentence_piece = sentence_piece_vocabulary();
  sentence_piece.add("\xe2\x96\x81", normal_kind, -1.0f);
  sentence_piece.add("l", normal_kind, -2.0f);
  sentence_piece.add("ll", normal_kind, -3.0f);
  return {add_tensors(gguf_writer()), add_tensors(byte_level.writer()),
          add_tensors(sentence_piece.writer())};
}

/// Numbers that break sums, products and signs.
constexpr std::uint64_t hostile_numbers[] = {0,
                                             1,
                                             7,
                                             8,
                                             9,
                                             255,
                                             65536,
                                             0x7fffffff,
                                             0x80000000,
                                             0xffffffff,
                                             0x100000000,
                                             std::uint64_t{1} << 40U,
                                             0x7fffffffffffffff,
                                             0x8000000000000000,
                                             0xfffffffffffffff0,
                                             0xffffffffffffffff};

std::string mutate(std::string bytes, std::mt19937& random) {
  // Most damage goes near the start of the file, where the structure is.
  const auto place = [&](std::size_t margin) {
    const std::size_t end = bytes.size() > margin ? bytes.size() - margin : 1;
    return random() % (random() % 2 == 0 ? end : std::min<std::size_t>(end, 400));
  };
  for (unsigned i = 0; i < 1 + random() % 3; ++i) {
    if (bytes.size() < 16) break;
    const std::size_t at = place(8);
    switch (random() % 6) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 2: {
        const auto number = hostile_numbers[random() % std::size(hostile_numbers)];
        std::memcpy(bytes.data() + at, &number, random() % 2 == 0 ? 8 : 4);
        break;
      }
      case 3:
        bytes.resize(at);
        break;
      case 4:
        bytes.erase(at, 1 + random() % 16);
        break;
      default:
        bytes.insert(at, bytes.substr(place(8), 1 + random() % 64));
        break;
    }
  }
  return bytes;
}

/// Exercises the bytes, held in a block of their exact size so that a sanitizer sees any step out.
exercise_outcome exercise_exactly(const std::string& bytes) {
  const auto exact = std::make_unique<std::byte[]>(bytes.size());
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  return exercise_gguf({exact.get(), bytes.size()});
}

}  // namespace

TEST_CASE("mutated files neither crash nor allocate out of proportion", "[models][gguf]") {
  std::mt19937 random(20240229);
  const auto files = whole_files();
  for (const auto& file : files) {
    const auto outcome = exercise_exactly(file);
    REQUIRE(outcome.opened);
    REQUIRE(outcome.tokenized == (&file != &files[0]));
  }
  int num_opened = 0;
  int num_tokenized = 0;
  constexpr int rounds = 3000;
  for (int round = 0; round < rounds; ++round) {
    const auto bytes = mutate(files[random() % files.size()], random);
    INFO("round " << round << ", " << bytes.size() << " bytes");
    const std::size_t before = live_bytes;
    peak_bytes = before;
    const auto outcome = exercise_exactly(bytes);
    const std::size_t used = peak_bytes - before;
    num_opened += outcome.opened ? 1 : 0;
    num_tokenized += outcome.tokenized ? 1 : 0;
    // The smallest entry takes 14 bytes in the file and about 250 while its list grows; the tables
    // of a tokenizer take about 150 for a token of 9 bytes.
    REQUIRE(used <= bytes.size() * 40 + 65536);
  }
  // A test in which nothing gets past the header, or everything does, would prove little.
  CHECK(num_opened > rounds / 20);
  CHECK(num_opened < rounds * 19 / 20);
  CHECK(num_tokenized > rounds / 100);
}

TEST_CASE("every number of a file's structure may be hostile", "[models][gguf]") {
  const auto whole = whole_files()[0];
  for (std::size_t at = 0; at + 8 <= whole.size() && at < 600; ++at) {
    for (const auto number : hostile_numbers) {
      auto bytes = whole;
      std::memcpy(bytes.data() + at, &number, 8);
      const std::size_t before = live_bytes;
      peak_bytes = before;
      exercise_exactly(bytes);
      REQUIRE(peak_bytes - before <= bytes.size() * 40 + 65536);
    }
  }
}
