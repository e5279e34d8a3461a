// The only writer of page accounting: carries cache_accounts' decisions to those who asked.
#pragma once

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <unordered_map>

#include "actors/protocol.hpp"

namespace quire {

struct cache_manager_state {
  cache_manager_state() {}

  std::unique_ptr<cache_accounts> accounts;
  /// Who negotiates under a ticket, for the offer that follows a counter-offer.
  std::unordered_map<ticket_id, request_actor> negotiators;
  /// What a request actor holds: released when it dies.
  struct holdings {
    std::vector<ticket_id> tickets;
    std::vector<sequence_id> sequences;
  };
  std::unordered_map<caf::actor_id, holdings> owners;
  /// Whose sequence it is, to tell of losses.
  std::unordered_map<sequence_id, request_actor> sequence_owners;
  /// Extensions that wait until others have yielded.
  std::unordered_map<sequence_id, caf::typed_response_promise<bool>> growths;
  std::optional<batcher_actor> batcher;  ///< as far as it has asked for a lease
  std::optional<moment> next_tick;

  static constexpr const char* name = "cache-manager";
};

cache_manager_actor::behavior_type cache_manager(
    cache_manager_actor::stateful_pointer<cache_manager_state> self,
    std::shared_ptr<std::unique_ptr<cache_accounts>> accounts);

}  // namespace quire
