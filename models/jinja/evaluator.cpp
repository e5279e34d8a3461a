#include "models/jinja/evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/builtins.hpp"

namespace quire::jinja {
namespace {

/// The variables of one body. Lookups go on in the parent.
struct scope : heap_object {
  scope* parent = nullptr;
  std::vector<std::pair<std::string_view, value>> variables;
  bool captured = false;  ///< a macro refers to it, so it must not be reused

  const value* find(std::string_view name) const {
    for (const scope* s = this; s; s = s->parent)
      for (const auto& [known, item] : s->variables)
        if (known == name) return &item;
    return nullptr;
  }

  void set(std::string_view name, const value& item) {
    for (auto& [known, old] : variables) {
      if (known != name) continue;
      old = item;
      return;
    }
    variables.emplace_back(name, item);
  }
};

enum class flow { normal, stop_loop, next_round };

class evaluator {
 public:
  evaluator(runtime& rt, const mapping& variables) : rt_(rt), scope_(rt.make<scope>()) {
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
  class nesting {
   public:
    explicit nesting(evaluator& e) : e_(e) {
      if (e_.depth_ >= e_.rt_.limits().depth) e_.rt_.fail_limit("recurses too deeply");
      ++e_.depth_;
    }
    ~nesting() { --e_.depth_; }
    nesting(const nesting&) = delete;
    nesting& operator=(const nesting&) = delete;

   private:
    evaluator& e_;
  };

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

  void define(std::string_view name, const value& item) {
    rt_.step();
    scope_->set(name, item);
  }

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

  std::vector<value> loop_items(const for_statement& loop) {
    const value iterable = eval(*loop.iterable);
    rt_.offset = loop.iterable->offset;
    std::vector<value> items = iterate(rt_, iterable);
    if (!loop.condition) return items;
    std::vector<value> kept;
    scope* inner = new_scope(scope_);
    for (const value& item : items) {
      inner = fresh(inner);
      const within body(*this, inner);
      assign(loop.variable, item);
      if (truth(rt_, eval(*loop.condition))) kept.push_back(item);
    }
    return kept;
  }

  flow run_form(const for_statement& loop) {
    loop_state* const state = rt_.make<loop_state>();
    state->items = loop_items(loop);
    rt_.charge(state->items.size() * sizeof(value));
    // As in Jinja, the else part runs unless some round got to the end of the body.
    bool completed = false;
    scope* inner = new_scope(scope_);
    for (std::size_t& i = state->index; i < state->items.size(); ++i) {
      rt_.step();
      inner = fresh(inner);
      const within body(*this, inner);
      define("loop", state);
      assign(loop.variable, state->items[i]);
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
      const value* object = scope_->find(t.name);
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

  // ---- expressions ----

  value eval(const expression& e) {
    rt_.step();
    rt_.offset = e.offset;
    const nesting guard(*this);
    return std::visit([&](const auto& form) { return eval_form(e, form); }, e.form);
  }

  std::vector<value> eval_all(const expression_list& list) {
    std::vector<value> items;
    items.reserve(list.size());
    for (const expression_ptr& item : list) items.push_back(eval(*item));
    return items;
  }

  arguments eval_arguments(const call_arguments& given) {
    arguments args{eval_all(given.positional), {}};
    for (const auto& [name, item] : given.named) args.named.emplace_back(name, eval(*item));
    if (given.spread)
      for (const value& item : iterate(rt_, eval(*given.spread))) args.positional.push_back(item);
    if (given.named_spread) {
      const value spread = eval(*given.named_spread);
      const auto* map = std::get_if<const mapping*>(&spread);
      if (!map) rt_.fail(fmt::format("** takes a dict, not '{}'", type_name(spread)));
      for (const auto& [key, item] : (*map)->items) {
        const auto* name = std::get_if<text>(&key);
        if (!name) rt_.fail("the keys of ** must be texts");
        args.named.emplace_back(name->bytes, item);
      }
    }
    return args;
  }

  value eval_form(const expression&, const text_literal& literal) { return text{literal.text}; }
  value eval_form(const expression&, const constant& c) { return c.v; }

  value eval_form(const expression&, const name_reference& reference) {
    if (const value* found = scope_->find(reference.name)) return *found;
    if (const std::optional<value> global = find_global(rt_, reference.name)) return *global;
    return undefined{reference.name};
  }

  value eval_form(const expression&, const list_literal& list) {
    return rt_.make_list(eval_all(list.items));
  }

  value eval_form(const expression&, const tuple_literal& tuple) {
    return rt_.make_sequence(sequence_kind::tuple, eval_all(tuple.items));
  }

  value eval_form(const expression& e, const dict_literal& dict) {
    mapping* const made = rt_.make_mapping();
    rt_.charge(dict.items.size() * 2 * sizeof(value));
    for (const auto& [key_of, item_of] : dict.items) {
      const value key = eval(*key_of);
      const value item = eval(*item_of);
      rt_.offset = e.offset;
      check_key(rt_, key);
      rt_.step(made->items.size() / 8);
      made->set(key, item);
    }
    return made;
  }

  value eval_form(const expression& e, const unary& u) {
    const value v = eval(*u.operand);
    if (u.op == unary_operator::invert) return !truth(rt_, v);
    rt_.offset = e.offset;
    if (u.op == unary_operator::negate) {
      if (const auto* d = std::get_if<double>(&v)) return -*d;
      return binary_operation(rt_, binary_operator::subtract, std::int64_t{0}, v);
    }
    return binary_operation(rt_, binary_operator::add, std::int64_t{0}, v);
  }

  value eval_form(const expression& e, const binary& b) {
    const value left = eval(*b.left);
    const value right = eval(*b.right);
    rt_.offset = e.offset;
    return binary_operation(rt_, b.op, left, right);
  }

  value eval_form(const expression&, const logical& l) {
    const value left = eval(*l.left);
    return truth(rt_, left) == l.is_and ? eval(*l.right) : left;
  }

  value eval_form(const expression& e, const compare_chain& chain) {
    value left = eval(*chain.first);
    for (const auto& [op, operand] : chain.rest) {
      const value right = eval(*operand);
      rt_.offset = e.offset;
      if (!compare(op, left, right)) return false;
      left = right;
    }
    return true;
  }

  bool compare(comparison op, const value& a, const value& b) {
    switch (op) {
      case comparison::eq:
        return equal(rt_, a, b);
      case comparison::ne:
        return !equal(rt_, a, b);
      case comparison::lt:
        return less(rt_, a, b);
      case comparison::gt:
        return less(rt_, b, a);
      case comparison::le:
        return less(rt_, a, b) || equal(rt_, a, b);
      case comparison::ge:
        return less(rt_, b, a) || equal(rt_, a, b);
      case comparison::in:
        return contains(rt_, b, a);
      case comparison::not_in:
        return !contains(rt_, b, a);
    }
    return false;
  }

  value eval_form(const expression&, const concatenation& c) {
    std::string joined;
    for (const expression_ptr& part : c.parts) {
      append_text(rt_, joined, eval(*part));
      if (joined.size() > rt_.limits().arena_bytes) rt_.fail_limit("takes too much memory");
    }
    return rt_.make_text(std::move(joined));
  }

  value eval_form(const expression&, const conditional& c) {
    if (truth(rt_, eval(*c.condition))) return eval(*c.then);
    if (c.otherwise) return eval(*c.otherwise);
    return undefined{"the value of an inline if without else"};
  }

  value eval_form(const expression& e, const attribute& a) {
    const value object = eval(*a.object);
    rt_.offset = e.offset;
    return get_attribute(rt_, object, a.name);
  }

  value eval_form(const expression& e, const subscript& s) {
    const value object = eval(*s.object);
    const value index = eval(*s.index);
    rt_.offset = e.offset;
    return get_item(rt_, object, index);
  }

  value eval_form(const expression& e, const slice& s) {
    const value object = eval(*s.object);
    const auto bound = [&](const expression_ptr& given) -> value {
      return given ? eval(*given) : value(none{});
    };
    const value start = bound(s.start);
    const value stop = bound(s.stop);
    const value step = bound(s.step);
    rt_.offset = e.offset;
    return get_slice(rt_, object, start, stop, step);
  }

  value eval_form(const expression& e, const call& c) {
    // A method is called without making an object of it first.
    if (const auto* a = std::get_if<attribute>(&c.callee->form)) {
      const value object = eval(*a->object);
      const method_lookup method = find_method(object, a->name);
      rt_.offset = c.callee->offset;
      const value callee = method.function ? value() : get_attribute(rt_, object, a->name);
      const arguments args = eval_arguments(c.args);
      rt_.offset = e.offset;
      return method.function ? method.function(rt_, object, args) : call_value(rt_, callee, args);
    }
    const value callee = eval(*c.callee);
    const arguments args = eval_arguments(c.args);
    rt_.offset = e.offset;
    return call_value(rt_, callee, args);
  }

  value eval_form(const expression& e, const filter_use& use) {
    const value input = eval(*use.input);
    const arguments args = eval_arguments(use.args);
    rt_.offset = e.offset;
    if (!use.function)
      rt_.fail(fmt::format("there is no filter '{}'", use.name), errc::unsupported);
    return use.function(rt_, input, args);
  }

  value eval_form(const expression& e, const test_use& use) {
    const value input = eval(*use.input);
    const arguments args = eval_arguments(use.args);
    rt_.offset = e.offset;
    if (!use.function) rt_.fail(fmt::format("there is no test '{}'", use.name), errc::unsupported);
    return use.function(rt_, input, args);
  }

  runtime& rt_;
  scope* scope_;
  std::string* out_ = nullptr;
  std::uint32_t depth_ = 0;
};

}  // namespace

std::string render_template(const statement_list& body, const mapping& variables, runtime& rt) {
  return evaluator(rt, variables).render(body);
}

}  // namespace quire::jinja
