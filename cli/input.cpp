#include "cli/input.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace quire::cli {

result<std::string> read_input(const std::string& name) {
  const auto problem = [&](const char* what) {
    return fail(errc::io_error, (name == "-" ? "standard input" : name) + ": " + what);
  };
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> owned{nullptr, &std::fclose};
  std::FILE* from = stdin;
  if (name != "-") {
    owned.reset(std::fopen(name.c_str(), "rb"));
    if (!owned) return problem(std::strerror(errno));
    from = owned.get();
  }
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), from))
    text.append(buffer.data(), n);
  if (std::ferror(from) != 0) return problem(std::strerror(errno));
  return text;
}

}  // namespace quire::cli
