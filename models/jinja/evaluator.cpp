#include "models/jinja/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/builtins.hpp"
#include "models/jinja/expression_evaluator.hpp"

namespace quire::jinja {
namespace {

enum class flow { normal, stop_loop, next_round };

class evaluator : expression_evaluator {
 public:
  evaluator(runtime& rt, const mapping& variables) : expression_evaluator(rt) {
    for (const auto& [name, item] : variables.items)
      if (const auto* t = std::get_if<text>(&name)) scope_->variables.emplace_back(t->bytes, item);
  }

  std::string render(const statement_list& body) {
    std::string rendered;
    out_ = &rendered;
    run(body);
    return rendered;
  }

 private:
  /// Makes `s` the current scope until the end of the block.
  class within {
   public:
    within(evaluator& e, scope* s) : e_(e), outer_(std::exchange(e.scope_, s)) {}
    ~within() { e_.scope_ = outer_; }
    within(const within&) = delete;
    within& operator=(const within&) = delete;

   private:
    evaluator& e_;
    scope* outer_;
  };

  scope* new_scope(scope* parent) {
    scope* made = rt_.make<scope>();
    made->parent = parent;
    return made;
  }

  /// An empty scope: `old` itself where nothing refers to it.
  scope* fresh(scope* old) {
    if (old->captured) return new_scope(old->parent);
    old->variables.clear();
    return old;
  }

  void define(std::string_view name, const value& item) { scope_->set(rt_, name, item); }

  // ---- statements ----

  flow run(const statement_list& body) {
    for (const statement& s : body) {
      const flow f = run(s);
      if (f != flow::normal) return f;
    }
    return flow::normal;
  }

  flow run(const statement& s) {
    rt_.step();
    rt_.offset = s.offset;
    const nesting guard(*this);
    return std::visit([&](const auto& form) { return run_form(form); }, s.form);
  }

  /// Runs a body and returns what it prints.
  text capture(const statement_list& body) {
    std::string printed;
    std::string* const outer = std::exchange(out_, &printed);
    struct restore {
      std::string*& place;
      std::string* old;
      ~restore() { place = old; }
    } const guard{out_, outer};
    run(body);
    return rt_.make_text(std::move(printed));
  }

  void check_output() const {
    if (out_->size() > rt_.limits().output_bytes)
      rt_.fail_limit(fmt::format("prints more than {} bytes", rt_.limits().output_bytes));
  }

  flow run_form(const data_output& data) {
    *out_ += data.text;
    rt_.step_bytes(data.text.size());
    check_output();
    return flow::normal;
  }

  flow run_form(const output& o) {
    const value v = eval(*o.value);
    const std::size_t before = out_->size();
    append_text(rt_, *out_, v);
    rt_.step_bytes(out_->size() - before);
    check_output();
    return flow::normal;
  }

  flow run_form(const if_statement& chain) {
    for (const if_branch& branch : chain.branches)
      if (truth(rt_, eval(*branch.condition))) return run(branch.body);
    return run(chain.otherwise);
  }

  const sequence* loop_items(const for_statement& loop) {
    const value source = eval(*loop.iterable);
    rt_.offset = loop.iterable->offset;
    const sequence* const all = iterable(rt_, source);
    if (!loop.condition) return all;
    std::vector<value> kept;
    scope* inner = new_scope(scope_);
    for (const value& item : all->items) {
      inner = fresh(inner);
      const within body(*this, inner);
      assign(loop.variable, item);
      if (truth(rt_, eval(*loop.condition))) kept.push_back(item);
    }
    return rt_.make_list(std::move(kept));
  }

  flow run_form(const for_statement& loop) {
    loop_state* const state = rt_.make<loop_state>();
    state->items = loop_items(loop);
    // As in Jinja, the else part runs unless some round got to the end of the body.
    bool completed = false;
    scope* inner = new_scope(scope_);
    for (std::size_t& i = state->index; i < state->items->items.size(); ++i) {
      rt_.step();
      inner = fresh(inner);
      const within body(*this, inner);
      define("loop", state);
      assign(loop.variable, state->items->items[i]);
      const flow ended = run(loop.body);
      completed |= ended == flow::normal;
      if (ended == flow::stop_loop) break;
    }
    if (completed) return flow::normal;
    const within body(*this, fresh(inner));
    return run(loop.otherwise);
  }

  flow run_form(const set_statement& set) {
    assign(set.variable, eval(*set.value));
    return flow::normal;
  }

  /// The printed body, passed through the block's filters.
  value filtered_body(const statement_list& body, const expression_ptr& filters) {
    const within inner(*this, new_scope(scope_));
    const text printed = capture(body);
    if (!filters) return printed;
    define(body_name, printed);
    return eval(*filters);
  }

  flow run_form(const set_block& block) {
    assign(block.variable, filtered_body(block.body, block.filters));
    return flow::normal;
  }

  flow run_form(const filter_block& block) {
    append_text(rt_, *out_, filtered_body(block.body, block.filters));
    check_output();
    return flow::normal;
  }

  flow run_form(const with_statement& with) {
    std::vector<value> items;
    for (const auto& variable : with.variables) items.push_back(eval(*variable.second));
    const within inner(*this, new_scope(scope_));
    for (std::size_t i = 0; i < items.size(); ++i) assign(with.variables[i].first, items[i]);
    return run(with.body);
  }

  flow run_form(const macro_statement& m) {
    define(m.macro->name, make_macro(*m.macro));
    return flow::normal;
  }

  flow run_form(const call_statement& block) {
    const call& callee = std::get<call>(block.callee->form);
    const value target_macro = eval(*callee.callee);
    arguments args = eval_arguments(callee.args);
    args.named.emplace_back("caller", make_macro(*block.caller));
    rt_.offset = block.callee->offset;
    append_text(rt_, *out_, call_value(rt_, target_macro, args));
    check_output();
    return flow::normal;
  }

  flow run_form(const scope_statement& s) {
    const within inner(*this, new_scope(scope_));
    return run(s.body);
  }

  flow run_form(const break_statement&) { return flow::stop_loop; }
  flow run_form(const continue_statement&) { return flow::next_round; }

  void assign(const target& t, const value& v) {
    if (t.is_tuple) {
      rt_.offset = t.offset;
      const std::vector<value> items = iterate(rt_, v);
      if (items.size() != t.parts.size())
        rt_.fail(
            fmt::format("cannot unpack {} values into {} names", items.size(), t.parts.size()));
      for (std::size_t i = 0; i < items.size(); ++i) assign(t.parts[i], items[i]);
    } else if (t.attribute.empty()) {
      define(t.name, v);
    } else {
      const value* object = scope_->find(rt_, t.name);
      rt_.offset = t.offset;
      space* const* s = object ? std::get_if<space*>(object) : nullptr;
      if (!s) rt_.fail(fmt::format("'{}' is not a namespace, so it takes no attributes", t.name));
      rt_.step(1 + (*s)->attributes.items.size() / 8);
      rt_.charge(sizeof(value));
      (*s)->attributes.set(text{t.attribute}, v);
    }
  }

  // ---- macros ----

  value make_macro(const macro_definition& macro) {
    scope* const home = scope_;
    for (scope* s = home; s && !s->captured; s = s->parent) s->captured = true;
    callable* const made = rt_.make<callable>();
    made->name = macro.name;
    made->invoke = [this, &macro, home](runtime&, const arguments& args) {
      return call_macro(macro, home, args);
    };
    std::vector<value> names;
    for (const parameter& p : macro.parameters) names.push_back(text{p.name});
    made->attributes = {{"name", text{macro.name}},
                        {"arguments", rt_.make_sequence(sequence_kind::tuple, std::move(names))},
                        {"caller", macro.uses_caller},
                        {"catch_varargs", macro.uses_varargs},
                        {"catch_kwargs", macro.uses_kwargs}};
    return made;
  }

  value call_macro(const macro_definition& macro, scope* home, const arguments& args) {
    const within inner(*this, new_scope(home));
    const nesting guard(*this);
    bind_named(macro, args);
    bind_positional(macro, args);
    for (const parameter& p : macro.parameters) {
      if (has_own(p.name)) continue;
      define(p.name, p.fallback ? eval(*p.fallback) : value(undefined{p.name}));
    }
    return capture(macro.body);
  }

  bool has_own(std::string_view name) const {
    return std::any_of(scope_->variables.begin(), scope_->variables.end(),
                       [&](const auto& v) { return v.first == name; });
  }

  void bind_positional(const macro_definition& macro, const arguments& args) {
    std::vector<value> rest;
    for (std::size_t i = 0; i < args.positional.size(); ++i) {
      if (i >= macro.parameters.size()) {
        rest.push_back(args.positional[i]);
        continue;
      }
      const std::string& name = macro.parameters[i].name;
      if (has_own(name))
        rt_.fail(fmt::format("macro '{}' got two values for '{}'", macro.name, name));
      define(name, args.positional[i]);
    }
    if (!rest.empty() && !macro.uses_varargs)
      rt_.fail(fmt::format("macro '{}' takes at most {} arguments", macro.name,
                           macro.parameters.size()));
    if (macro.uses_varargs)
      define("varargs", rt_.make_sequence(sequence_kind::tuple, std::move(rest)));
  }

  void bind_named(const macro_definition& macro, const arguments& args) {
    mapping* rest = macro.uses_kwargs ? rt_.make_mapping() : nullptr;
    if (macro.uses_caller) define("caller", undefined{"caller"});
    for (const auto& [name, item] : args.named) {
      const bool known =
          std::any_of(macro.parameters.begin(), macro.parameters.end(),
                      [&known_name = name](const parameter& p) { return p.name == known_name; });
      if (known || (name == "caller" && macro.uses_caller))
        define(name, item);
      else if (rest)
        rest->set(text{name}, item);
      else
        rt_.fail(fmt::format("macro '{}' takes no argument '{}'", macro.name, name));
    }
    if (rest) define("kwargs", rest);
  }

  std::string* out_ = nullptr;
};

}  // namespace

std::string render_template(const statement_list& body, const mapping& variables, runtime& rt) {
  return evaluator(rt, variables).render(body);
}

}  // namespace quire::jinja
