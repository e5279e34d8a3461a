#include "compute/cpu_features.hpp"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <system_error>

namespace quire {

namespace {

struct cpuid_registers {
  std::uint32_t eax = 0;
  std::uint32_t ebx = 0;
  std::uint32_t ecx = 0;
  std::uint32_t edx = 0;
};

/// Returns a leaf, all zeros where the processor has none.
cpuid_registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) noexcept {
  cpuid_registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

constexpr bool bit(std::uint32_t word, unsigned at) noexcept {
  return ((word >> at) & 1u) != 0;
}

/// Returns the register sets that the operating system saves (XCR0).
std::uint64_t saved_state() noexcept {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

constexpr std::uint64_t ymm_state = 0x6;
constexpr std::uint64_t zmm_state = 0xe6;
constexpr std::uint64_t tile_state = 0x60000;  // XTILECFG and XTILEDATA

// Source: Intel's instruction set reference, CPUID leaves 1, 7.0 and 7.1.
std::array<cpu_feature, 13> find_features() noexcept {
  const cpuid_registers base = cpuid(1, 0);
  const cpuid_registers extended = cpuid(7, 0);
  const cpuid_registers further = cpuid(7, 1);
  const std::uint64_t saved = saved_state();
  const auto with = [saved](std::uint64_t state, std::uint32_t word, unsigned at) {
    return (saved & state) == state && bit(word, at);
  };
  return {{{"avx2", with(ymm_state, extended.ebx, 5)},
           {"fma", with(ymm_state, base.ecx, 12)},
           {"f16c", with(ymm_state, base.ecx, 29)},
           {"avx_vnni", with(ymm_state, further.eax, 4)},
           {"avx512f", with(zmm_state, extended.ebx, 16)},
           {"avx512bw", with(zmm_state, extended.ebx, 30)},
           {"avx512dq", with(zmm_state, extended.ebx, 17)},
           {"avx512vl", with(zmm_state, extended.ebx, 31)},
           {"avx512_vnni", with(zmm_state, extended.ecx, 11)},
           {"avx512_bf16", with(zmm_state, further.eax, 5)},
           // Whether the system saves the tiles is a reason of its own: missing_amx().
           {"amx_tile", bit(extended.edx, 24)},
           {"amx_int8", bit(extended.edx, 25)},
           {"amx_bf16", bit(extended.edx, 22)}}};
}

/// Asks Linux to let this process use the tile registers; returns why not, or nothing.
std::string ask_for_tiles() {
  constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
  if (syscall(SYS_arch_prctl, request_permission, tile_data) == 0) return {};
  return "the operating system refuses AMX: arch_prctl(ARCH_REQ_XCOMP_PERM): " +
         std::generic_category().message(errno);
}

/// Returns why palette 1 is not the one the kernels are written for: 8 tiles of 16 rows of 64
/// bytes.
std::string check_palette() {
  const cpuid_registers palettes = cpuid(0x1d, 0);
  const cpuid_registers first = cpuid(0x1d, 1);
  const std::uint32_t row_bytes = first.ebx & 0xffffu;
  const std::uint32_t num_tiles = first.ebx >> 16;
  const std::uint32_t num_rows = first.ecx & 0xffffu;
  if (palettes.eax >= 1 && row_bytes == 64 && num_tiles >= 8 && num_rows >= 16) return {};
  return "the CPU's AMX palette 1 is not 8 tiles of 16 rows of 64 bytes";
}

std::string find_missing_amx() {
  std::string missing = missing_features({"amx_tile", "amx_int8", "amx_bf16"});
  if (missing.empty()) missing = check_palette();
  if (missing.empty() && (saved_state() & tile_state) != tile_state)
    missing = "the operating system does not save AMX tiles (XCR0 bits 17 and 18)";
  if (missing.empty()) missing = ask_for_tiles();
  return missing;
}

std::string processor_name() {
  std::array<char, 49> name{};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const cpuid_registers r = cpuid(0x80000002u + i, 0);
    std::memcpy(name.data() + 16 * i, &r, sizeof r);
  }
  const std::string_view text(name.data());
  const auto first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return "unknown";
  return std::string(text.substr(first, text.find_last_not_of(' ') - first + 1));
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Counts the processors of a list such as "0-3,8".
std::size_t count_listed(std::string_view list) {
  std::size_t count = 0;
  const char* at = list.data();
  const char* end = at + list.size();
  while (at < end) {
    std::size_t first = 0;
    at = std::from_chars(at, end, first).ptr;
    std::size_t last = first;
    if (at < end && *at == '-') at = std::from_chars(at + 1, end, last).ptr;
    count += last >= first ? last - first + 1 : 0;
    ++at;
  }
  return count;
}

std::vector<cpu_cache> read_caches() {
  std::vector<cpu_cache> caches;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    const std::string size = first_line(folder + "/size");  // for example "48K"
    if (size.empty()) break;
    const std::string kind = first_line(folder + "/type");
    if (kind == "Instruction") continue;
    cpu_cache cache;
    cache.name = "L";
    cache.name += first_line(folder + "/level");
    if (kind == "Data") cache.name += 'd';
    std::from_chars(size.data(), size.data() + size.size(), cache.size_bytes);
    cache.size_bytes *= size.back() == 'M' ? 1024u * 1024u : 1024u;
    cache.num_sharing = count_listed(first_line(folder + "/shared_cpu_list"));
    caches.push_back(std::move(cache));
  }
  return caches;
}

}  // namespace

std::span<const cpu_feature> cpu_features() noexcept {
  static const auto features = find_features();
  return features;
}

std::string missing_features(std::initializer_list<std::string_view> names) {
  std::string missing;
  for (const std::string_view name : names) {
    const auto is_named = [name](const cpu_feature& f) { return f.name == name; };
    const auto found = std::ranges::find_if(cpu_features(), is_named);
    if (found != cpu_features().end() && found->present) continue;
    missing += missing.empty() ? "the CPU lacks " : ", ";
    missing += name;
  }
  return missing;
}

const std::string& missing_amx() {
  static const std::string missing = find_missing_amx();
  return missing;
}

cpu_description describe_cpu() {
  cpu_description cpu;
  cpu.model = processor_name();
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  cpu.num_cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                      ? static_cast<std::size_t>(CPU_COUNT(&allowed))
                      : 1;
  cpu.caches = read_caches();
  return cpu;
}

}  // namespace quire
