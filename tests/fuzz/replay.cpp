// Runs a fuzz target over files and folders of files: what g++ has in place of libFuzzer. With
// -max_total_time=SECONDS it goes on with mutations of these files, without feedback from the
// program; -seed=N makes another sequence of them. An input that ends the process is left in
// `finding`.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

// The input that runs, for the signal handler.
const std::uint8_t* running = nullptr;
std::size_t running_size = 0;

extern "C" void keep_finding(int signal) {
  const int file = open("finding", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0 && write(file, running, running_size) >= 0) close(file);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const bytes& input) {
  const bytes exact(input);  // no spare capacity, so that sanitizers see reads past the end
  running = exact.data();
  running_size = exact.size();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

bool run_file(const std::filesystem::path& path, std::vector<bytes>& corpus) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return false;
  }
  const std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  corpus.emplace_back(content.begin(), content.end());
  run(corpus.back());
  return true;
}

/// Changes a copy of some corpus entry in one to eight places.
bytes mutate(const std::vector<bytes>& corpus, std::mt19937_64& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : random() % limit; };
  const auto byte = [&] { return static_cast<std::uint8_t>(random()); };
  bytes input = corpus[below(corpus.size())];
  for (std::size_t count = 1 + below(8); count > 0; --count) {
    const std::size_t at = below(input.size());
    const auto here = input.begin() + static_cast<std::ptrdiff_t>(at);
    switch (input.empty() ? 0 : below(6)) {
      case 0:
        input.insert(here, byte());
        break;
      case 1:
        input.erase(here);
        break;
      case 2:
        *here = byte();
        break;
      case 3:
        *here = static_cast<std::uint8_t>(*here ^ (1u << below(8)));
        break;
      case 4: {  // a run of one extreme value
        constexpr std::uint8_t extremes[] = {0x00, 0xff, 0x7f, 0x80};
        const auto length =
            static_cast<std::ptrdiff_t>(below(std::min<std::size_t>(64, input.size() - at)));
        std::fill(here, here + length, extremes[below(4)]);
        break;
      }
      default: {  // the rest of another entry
        const bytes& other = corpus[below(corpus.size())];
        input.resize(at);
        input.insert(input.end(),
                     other.begin() + static_cast<std::ptrdiff_t>(std::min(at, other.size())),
                     other.end());
      }
    }
  }
  return input;
}

std::size_t run_mutations(const std::vector<bytes>& corpus, std::uint64_t seed, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::mt19937_64 random(seed);
  std::size_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) run(mutate(corpus, random));
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(signal, keep_finding);
  bool all_read = true;
  double seconds = 0.0;
  std::uint64_t seed = 1;
  std::vector<bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("-max_total_time=")) {
      seconds = std::strtod(argv[i] + 16, nullptr);
    } else if (argument.starts_with("-seed=")) {
      seed = std::strtoull(argv[i] + 6, nullptr, 10);
    } else if (!std::filesystem::is_directory(argv[i])) {
      all_read = run_file(argv[i], corpus) && all_read;
    } else {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i]))
        if (entry.is_regular_file()) all_read = run_file(entry.path(), corpus) && all_read;
    }
  }
  if (corpus.empty()) return 1;
  const std::size_t mutations = run_mutations(corpus, seed, seconds);
  std::printf("%zu files, %zu mutations\n", corpus.size(), mutations);
  return all_read ? 0 : 1;
}
