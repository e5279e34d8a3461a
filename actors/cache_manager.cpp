#include "actors/cache_manager.hpp"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace quire {

namespace {

using self_pointer = cache_manager_actor::stateful_pointer<cache_manager_state>;

/// How often unanswered offers are looked for while there are any.
constexpr std::chrono::milliseconds expiry_check{500};

std::uint64_t number(ticket_id ticket) { return static_cast<std::uint64_t>(ticket); }

cache_manager_state::holdings& holdings_of(self_pointer self, const request_actor& owner) {
  const auto [at, fresh] = self->state.owners.try_emplace(owner.id());
  if (fresh) self->monitor(owner);
  return at->second;
}

void own_sequence(self_pointer self, const request_actor& owner, sequence_id sequence) {
  holdings_of(self, owner).sequences.push_back(sequence);
  self->state.sequence_owners.insert_or_assign(sequence, owner);
}

void disown_sequence(self_pointer self, sequence_id sequence) {
  const auto found = self->state.sequence_owners.find(sequence);
  if (found == self->state.sequence_owners.end()) return;
  if (const auto at = self->state.owners.find(found->second.id()); at != self->state.owners.end())
    std::erase(at->second.sequences, sequence);
  self->state.sequence_owners.erase(found);
}

void watch_offers(self_pointer self) {
  auto& st = self->state;
  if (st.expiry_check_pending || !st.accounts->has_open_offers()) return;
  st.expiry_check_pending = true;
  self->delayed_send(self, expiry_check, tick{});
}

void serve_queue(self_pointer self) {
  auto& st = self->state;
  for (const offer& made : st.accounts->serve_queue(self->clock().now())) {
    const auto found = st.negotiators.find(made.ticket);
    if (found == st.negotiators.end()) {
      st.accounts->drop(made.ticket, self->clock().now());
      continue;
    }
    spdlog::debug("ticket {}: offer of {} pages after waiting, {} tokens cached, sequence {}",
                  number(made.ticket), made.pages, made.cached_tokens, to_index(made.sequence));
    own_sequence(self, found->second, made.sequence);
    self->send(found->second, made);
    st.negotiators.erase(found);
  }
  watch_offers(self);
}

budget_answer negotiate(self_pointer self, budget_request& asked) {
  auto& st = self->state;
  const auto request = to_index(asked.terms.request);
  const budget_answer answer =
      st.accounts->negotiate(std::move(asked.terms), self->clock().now());
  if (const auto* made = std::get_if<offer>(&answer)) {
    spdlog::debug("request {} ticket {}: offer of {} pages, {} tokens cached, sequence {}", request,
                  number(made->ticket), made->pages, made->cached_tokens, to_index(made->sequence));
    holdings_of(self, asked.owner).tickets.push_back(made->ticket);
    own_sequence(self, asked.owner, made->sequence);
    watch_offers(self);
  } else if (const auto* later = std::get_if<counter_offer>(&answer)) {
    spdlog::debug("request {} ticket {}: counter-offer, place {}, {}", request,
                  number(later->ticket), later->position,
                  later->for_prefix ? "another request computes its prefix" : "waits for pages");
    holdings_of(self, asked.owner).tickets.push_back(later->ticket);
    st.negotiators.insert_or_assign(later->ticket, asked.owner);
  } else {
    const auto& never = std::get<refusal>(answer);
    spdlog::debug("request {}: refused, needs {} tokens of {}", request, never.needed_tokens,
                  never.available_tokens);
  }
  return answer;
}

forked fork_sequence(self_pointer self, const fork_request& asked) {
  auto children = self->state.accounts->fork(asked.parent,
                                             static_cast<std::uint32_t>(asked.owners.size()));
  if (!children) return {tl::unexpected(children.error())};
  for (std::size_t i = 0; i < children->size(); ++i)
    own_sequence(self, asked.owners[i], (*children)[i]);
  spdlog::debug("sequence {} forked into {} more", to_index(asked.parent), children->size());
  return {std::move(*children)};
}

void lease(self_pointer self, const lease_request& asked) {
  auto pages = std::make_shared<step_pages>(
      self->state.accounts->lease(asked.step, *asked.items, asked.idle,
                                  self->clock().now()));
  if (!pages->copies.empty() || pages->trim_from_page)
    spdlog::debug("step {}: {} pages to copy{}", asked.step, pages->copies.size(),
                  pages->trim_from_page
                      ? ", trim from page " + std::to_string(*pages->trim_from_page)
                      : std::string());
  self->send(asked.answer_to, leased(std::move(pages)));
}

void end_step(self_pointer self, const step_over& over) {
  auto& st = self->state;
  for (const sequence_id lost : st.accounts->end_step(over.step, over.succeeded, over.not_run))
    if (const auto found = st.sequence_owners.find(lost); found != st.sequence_owners.end())
      self->send(found->second,
                 sequence_failed{lost, {errc::internal, "a step failed while its pages moved", {}}});
  serve_queue(self);
}

// Whatever a dead request actor held goes back.
void bury(self_pointer self, caf::actor_id dead) {
  auto& st = self->state;
  const auto found = st.owners.find(dead);
  if (found == st.owners.end()) return;
  const auto held = std::move(found->second);
  st.owners.erase(found);
  const moment now = self->clock().now();
  for (const sequence_id sequence : held.sequences) {
    st.sequence_owners.erase(sequence);
    st.accounts->release(sequence, now);
  }
  for (const ticket_id ticket : held.tickets) {
    // The sequences of a ticket may have been forked for others, who keep them.
    if (st.negotiators.erase(ticket) > 0 || st.accounts->is_offered(ticket))
      st.accounts->drop(ticket, now);
  }
  serve_queue(self);
}

cache_status status(self_pointer self, bool checked) {
  const auto& accounts = *self->state.accounts;
  cache_status now;
  now.store = accounts.store().stats();
  now.fragmentation = accounts.store().fragmentation();
  now.prefix = accounts.prefix();
  now.counts = accounts.counters();
  now.total_pages = accounts.store().num_pages();
  now.reserved_pages = accounts.ledger().promised();
  now.waiting = accounts.waiting();
  if (checked)
    if (const auto sound = accounts.check(); !sound) now.defect = sound.error().message;
  return now;
}

}  // namespace

cache_manager_actor::behavior_type cache_manager(
    cache_manager_actor::stateful_pointer<cache_manager_state> self,
    std::shared_ptr<std::unique_ptr<cache_accounts>> accounts) {
  self->state.accounts = std::move(*accounts);
  self->set_down_handler([self](const caf::down_msg& down) { bury(self, down.source.id()); });
  return {
      [self](budget_request& asked) { return negotiate(self, asked); },
      [self](const accept_offer& taken) {
        return self->state.accounts->accept(taken.ticket).has_value();
      },
      [self](const extend_request& asked) {
        const auto grown = self->state.accounts->extend(asked.sequence, asked.sequence_tokens);
        spdlog::debug("sequence {}: budget of {} tokens {}", to_index(asked.sequence),
                      asked.sequence_tokens, grown ? "granted" : "denied");
        return grown.has_value();
      },
      [self](const decline_offer& declined) {
        self->state.negotiators.erase(declined.ticket);
        self->state.accounts->drop(declined.ticket, self->clock().now());
        serve_queue(self);
      },
      [self](const lease_request& asked) { lease(self, asked); },
      [self](const step_over& over) { end_step(self, over); },
      [self](const fork_request& asked) { return fork_sequence(self, asked); },
      [self](const truncate_sequence& asked) {
        if (auto done = self->state.accounts->truncate(asked.sequence, asked.tokens); !done)
          spdlog::debug("truncate: {}", done.error().message);
        serve_queue(self);
      },
      [self](const release_sequence& released) {
        spdlog::debug("sequence {} released", to_index(released.sequence));
        disown_sequence(self, released.sequence);
        self->state.accounts->release(released.sequence, self->clock().now());
        serve_queue(self);
      },
      [self](const tick&) {
        self->state.expiry_check_pending = false;
        serve_queue(self);
      },
      [self](const status_request&) { return status(self, false); },
      [self](const check_request&) { return status(self, true); },
  };
}

}  // namespace quire
