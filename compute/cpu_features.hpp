// What this machine's processor offers: the extensions that kernels ask for, cores and caches.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quire {

/// An instruction set extension, by the name that Linux gives it.
struct cpu_feature {
  std::string_view name;
  bool present = false;  ///< the processor has it and the operating system saves its registers
};

/// Returns all extensions that some kernel asks for, oldest first.
std::span<const cpu_feature> cpu_features() noexcept;

/// Returns what keeps this process from using `names`, for example "the CPU lacks avx_vnni"; empty
/// when nothing does.
std::string missing_features(std::initializer_list<std::string_view> names);

/// Returns what keeps this process from using AMX tiles: the processor, the operating system, or
/// the permission, which the first call asks for on behalf of all threads; empty when nothing does.
const std::string& missing_amx();

/// A cache as the first core sees it.
struct cpu_cache {
  std::string name;  ///< "L1d", "L2", ...
  std::size_t size_bytes = 0;
  std::size_t num_sharing = 0;  ///< cores that share it
};

/// The processor as an operator knows it.
struct cpu_description {
  std::string model;              ///< the processor's own name
  std::size_t num_cores = 0;      ///< that this process may run on
  std::vector<cpu_cache> caches;  ///< empty where the system does not say
};

/// Reads the description; costs some file reads.
cpu_description describe_cpu();

}  // namespace quire
