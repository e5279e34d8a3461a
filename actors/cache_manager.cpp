#include "actors/cache_manager.hpp"

#include <spdlog/spdlog.h>
#include <algorithm>

namespace quire {

namespace {

using self_pointer = cache_manager_actor::stateful_pointer<cache_manager_state>;

std::uint64_t number(ticket_id ticket) {
  return static_cast<std::uint64_t>(ticket);
}

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

// Offers, questions and growth are not waited for in silence for ever.
void watch_time(self_pointer self) {
  auto& st = self->state;
  const auto next = st.accounts->next_deadline();
  if (!next || (st.next_tick && *st.next_tick <= *next)) return;
  st.next_tick = next;
  const auto wait =
      std::max<caf::timespan>(*next - self->clock().now(), std::chrono::milliseconds(1));
  self->delayed_send(self, wait, tick{});
}

void answer_growth(cache_manager_state& st, sequence_id sequence, bool granted) {
  const auto found = st.growths.find(sequence);
  if (found == st.growths.end()) return;
  spdlog::debug("sequence {}: growth {} after waiting", to_index(sequence),
                granted ? "granted" : "denied");
  found->second.deliver(granted);
  st.growths.erase(found);
}

void tell(self_pointer self, const offer& made) {
  auto& st = self->state;
  const auto found = st.negotiators.find(made.ticket);
  if (found == st.negotiators.end()) return st.accounts->drop(made.ticket, self->clock().now());
  spdlog::debug("ticket {}: offer of {} pages after waiting, {} tokens stored, sequence {}",
                number(made.ticket), made.pages, made.cached_tokens, to_index(made.sequence));
  own_sequence(self, found->second, made.sequence);
  self->send(found->second, made);
  st.negotiators.erase(found);
}

void tell(self_pointer self, const yield_ask& ask) {
  const auto found = self->state.sequence_owners.find(ask.sequence);
  spdlog::debug("ticket {} sequence {}: asked to yield {} pages", number(ask.ticket),
                to_index(ask.sequence), ask.pages);
  if (found != self->state.sequence_owners.end()) self->send(found->second, ask);
}

void tell(self_pointer self, const growth_answer& answer) {
  answer_growth(self->state, answer.sequence, answer.granted);
}

void tell(self_pointer self, const taken_back& lost) {
  auto& st = self->state;
  std::optional<request_actor> owner;
  if (lost.sequence) {
    if (const auto at = st.sequence_owners.find(*lost.sequence); at != st.sequence_owners.end())
      owner = at->second;
    disown_sequence(self, *lost.sequence);
    answer_growth(st, *lost.sequence, false);
  }
  if (const auto at = st.negotiators.find(lost.ticket); at != st.negotiators.end()) {
    owner = at->second;
    st.negotiators.erase(at);
  }
  spdlog::debug("ticket {}: pages taken back", number(lost.ticket));
  if (owner) self->send(*owner, lost);
}

void serve(self_pointer self) {
  auto& st = self->state;
  for (const cache_effect& effect : st.accounts->serve(self->clock().now()))
    std::visit([self](const auto& what) { tell(self, what); }, effect);
  if (st.accounts->has_page_work() && st.batcher) self->send(*st.batcher, page_work{});
  watch_time(self);
}

budget_answer negotiate(self_pointer self, budget_request& asked) {
  auto& st = self->state;
  const auto request = to_index(asked.terms.request);
  const budget_answer answer = st.accounts->negotiate(std::move(asked.terms), self->clock().now());
  if (const auto* made = std::get_if<offer>(&answer)) {
    spdlog::debug("request {} ticket {}: offer of {} pages, {} tokens cached, sequence {}", request,
                  number(made->ticket), made->pages, made->cached_tokens, to_index(made->sequence));
    holdings_of(self, asked.owner).tickets.push_back(made->ticket);
    own_sequence(self, asked.owner, made->sequence);
    watch_time(self);
  } else if (const auto* later = std::get_if<counter_offer>(&answer)) {
    spdlog::debug("request {} ticket {}: counter-offer, place {}, {}", request,
                  number(later->ticket), later->position,
                  later->for_prefix ? "another request computes its prefix" : "waits for pages");
    holdings_of(self, asked.owner).tickets.push_back(later->ticket);
    st.negotiators.insert_or_assign(later->ticket, asked.owner);
    // Others may have to yield for it; but first it must know its ticket.
    self->send(self, tick{});
  } else {
    const auto& never = std::get<refusal>(answer);
    spdlog::debug("request {}: refused, needs {} tokens of {}", request, never.needed_tokens,
                  never.available_tokens);
  }
  return answer;
}

caf::result<bool> extend(self_pointer self, const extend_request& asked) {
  auto& st = self->state;
  const auto answer =
      st.accounts->extend(asked.sequence, asked.sequence_tokens, self->clock().now());
  if (answer != cache_accounts::growth::waits) {
    const bool granted = answer == cache_accounts::growth::granted;
    spdlog::debug("sequence {}: budget of {} tokens {}", to_index(asked.sequence),
                  asked.sequence_tokens, granted ? "granted" : "denied");
    return granted;
  }
  spdlog::debug("sequence {}: budget of {} tokens waits for pages", to_index(asked.sequence),
                asked.sequence_tokens);
  auto promise = self->make_response_promise<bool>();
  st.growths.insert_or_assign(asked.sequence, promise);
  serve(self);
  return promise;
}

void hear_yield(self_pointer self, const yield_answer& answer) {
  constexpr const char* said[] = {"parks", "computes again", "refuses to yield: "};
  spdlog::debug("sequence {} {}{}", to_index(answer.sequence),
                said[static_cast<std::size_t>(answer.how)], answer.reason);
  auto& st = self->state;
  st.accounts->yielded(answer.sequence, answer.how, answer.resume_tokens, self->clock().now());
  serve(self);
}

forked fork_sequence(self_pointer self, const fork_request& asked) {
  auto children =
      self->state.accounts->fork(asked.parent, static_cast<std::uint32_t>(asked.owners.size()));
  if (!children) return {tl::unexpected(children.error())};
  for (std::size_t i = 0; i < children->size(); ++i)
    own_sequence(self, asked.owners[i], (*children)[i]);
  spdlog::debug("sequence {} forked into {} more", to_index(asked.parent), children->size());
  return {std::move(*children)};
}

// The owner of a parked sequence waits for an offer as if it had just asked.
void note_parked(self_pointer self, const park_order& order, const parked_sequence& parked) {
  auto& st = self->state;
  const auto [ticket, sequence] = parked;
  spdlog::debug("sequence {}: {} pages parked {}", to_index(sequence), order.pages.size(),
                order.where == park_place::disk ? "on disk" : "in memory");
  answer_growth(st, sequence, false);
  const auto owner = st.sequence_owners.find(sequence);
  if (owner != st.sequence_owners.end()) {
    st.negotiators.insert_or_assign(ticket, owner->second);
    holdings_of(self, owner->second).tickets.push_back(ticket);
  }
  disown_sequence(self, sequence);
}

void lease(self_pointer self, const lease_request& asked) {
  auto& st = self->state;
  st.batcher = asked.answer_to;
  const std::uint64_t evicted_before = st.accounts->prefix().evictions;
  auto pages = std::make_shared<step_pages>(
      st.accounts->lease(asked.step, *asked.items, asked.idle, self->clock().now()));
  if (const auto evicted = st.accounts->prefix().evictions - evicted_before; evicted > 0)
    spdlog::debug("step {}: {} pages of unused prefixes evicted", asked.step, evicted);
  for (std::size_t i = 0; i < pages->parked.size(); ++i)
    note_parked(self, pages->exchange.parks[i], pages->parked[i]);
  for (const unpark_order& order : pages->exchange.unparks)
    spdlog::debug("step {}: {} parked pages come back", asked.step, order.pages.size());
  if (!pages->copies.empty() || pages->trim_from_page)
    spdlog::debug("step {}: {} pages to copy{}", asked.step, pages->copies.size(),
                  pages->trim_from_page
                      ? ", trim from page " + std::to_string(*pages->trim_from_page)
                      : std::string());
  self->send(asked.answer_to, leased(std::move(pages)));
}

void end_step(self_pointer self, const step_over& over) {
  auto& st = self->state;
  for (const sequence_id lost : st.accounts->end_step(over.step, over.how))
    if (const auto found = st.sequence_owners.find(lost); found != st.sequence_owners.end())
      self->send(
          found->second,
          sequence_failed{lost, {errc::internal, "a step failed while its pages moved", {}}});
  serve(self);
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
    st.growths.erase(sequence);
    st.accounts->release(sequence, now);
  }
  for (const ticket_id ticket : held.tickets) {
    // The sequences of a ticket may have been forked for others, who keep them.
    if (st.negotiators.erase(ticket) > 0 || st.accounts->is_offered(ticket))
      st.accounts->drop(ticket, now);
  }
  serve(self);
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
  now.parked_memory_pages = accounts.parked().memory_pages();
  now.parked_disk_pages = accounts.parked().disk_pages();
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
      [self](const extend_request& asked) { return extend(self, asked); },
      [self](const yield_answer& answer) { hear_yield(self, answer); },
      [self](const hold_request& asked) {
        spdlog::debug("ticket {}: {}", number(asked.ticket),
                      asked.held ? "its reader is slow" : "its reader has caught up");
        self->state.accounts->hold(asked.ticket, asked.held);
        serve(self);
      },
      [self](const decline_offer& declined) {
        self->state.negotiators.erase(declined.ticket);
        self->state.accounts->drop(declined.ticket, self->clock().now());
        serve(self);
      },
      [self](const lease_request& asked) { lease(self, asked); },
      [self](const step_over& over) { end_step(self, over); },
      [self](const fork_request& asked) { return fork_sequence(self, asked); },
      [self](const truncate_sequence& asked) {
        if (auto done = self->state.accounts->truncate(asked.sequence, asked.tokens); !done)
          spdlog::debug("truncate: {}", done.error().message);
        serve(self);
      },
      [self](const release_sequence& released) {
        spdlog::debug("sequence {} released", to_index(released.sequence));
        disown_sequence(self, released.sequence);
        answer_growth(self->state, released.sequence, false);
        self->state.accounts->release(released.sequence, self->clock().now());
        serve(self);
      },
      [self](const tick&) {
        self->state.next_tick.reset();
        serve(self);
      },
      [self](const status_request&) { return status(self, false); },
      [self](const check_request&) { return status(self, true); },
  };
}

}  // namespace quire
