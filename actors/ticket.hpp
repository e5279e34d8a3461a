// The name of one negotiation.
#pragma once

#include <cstdint>

namespace quire {

/// Names one negotiation with the cache manager. Strictly increasing; 0 is never given out.
enum class ticket_id : std::uint64_t {};

}  // namespace quire
