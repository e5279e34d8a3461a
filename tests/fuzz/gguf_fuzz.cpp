#include "tests/support/exercise_gguf.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  quire::testing::exercise_gguf(std::as_bytes(std::span(data, size)));
  return 0;
}
