#include "models/jinja/expression_evaluator.hpp"

#include <fmt/format.h>

#include "models/jinja/builtins.hpp"

namespace quire::jinja {

const value* scope::find(runtime& rt, std::string_view name) const {
  for (const scope* s = this; s; s = s->parent) {
    rt.step(s->variables.size() / 16);
    for (const auto& [known, item] : s->variables)
      if (known == name) return &item;
  }
  return nullptr;
}

void scope::set(runtime& rt, std::string_view name, const value& item) {
  rt.step(1 + variables.size() / 16);
  for (auto& [known, old] : variables) {
    if (known != name) continue;
    old = item;
    return;
  }
  // Loops clear and fill the same scope, which takes no more memory.
  if (variables.size() == variables.capacity())
    rt.charge((variables.size() + 1) * sizeof(variables[0]));
  variables.emplace_back(name, item);
}

value expression_evaluator::eval(const expression& e) {
  rt_.step();
  rt_.offset = e.offset;
  const nesting guard(*this);
  return std::visit([&](const auto& form) { return eval_form(e, form); }, e.form);
}

std::vector<value> expression_evaluator::eval_all(const expression_list& list) {
  std::vector<value> items;
  items.reserve(list.size());
  for (const expression_ptr& item : list) items.push_back(eval(*item));
  return items;
}

arguments expression_evaluator::eval_arguments(const call_arguments& given) {
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

value expression_evaluator::eval_form(const expression&, const text_literal& literal) {
  return text{literal.text};
}

value expression_evaluator::eval_form(const expression&, const constant& c) {
  return c.v;
}

value expression_evaluator::eval_form(const expression&, const name_reference& reference) {
  if (const value* found = scope_->find(rt_, reference.name)) return *found;
  if (const std::optional<value> global = find_global(rt_, reference.name)) return *global;
  return undefined{reference.name};
}

value expression_evaluator::eval_form(const expression&, const list_literal& list) {
  return rt_.make_list(eval_all(list.items));
}

value expression_evaluator::eval_form(const expression&, const tuple_literal& tuple) {
  return rt_.make_sequence(sequence_kind::tuple, eval_all(tuple.items));
}

value expression_evaluator::eval_form(const expression& e, const dict_literal& dict) {
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

value expression_evaluator::eval_form(const expression& e, const unary& u) {
  const value v = eval(*u.operand);
  if (u.op == unary_operator::invert) return !truth(rt_, v);
  rt_.offset = e.offset;
  if (u.op == unary_operator::negate) {
    if (const auto* d = std::get_if<double>(&v)) return -*d;
    return binary_operation(rt_, binary_operator::subtract, std::int64_t{0}, v);
  }
  return binary_operation(rt_, binary_operator::add, std::int64_t{0}, v);
}

value expression_evaluator::eval_form(const expression& e, const binary& b) {
  const value left = eval(*b.left);
  const value right = eval(*b.right);
  rt_.offset = e.offset;
  return binary_operation(rt_, b.op, left, right);
}

value expression_evaluator::eval_form(const expression&, const logical& l) {
  const value left = eval(*l.left);
  return truth(rt_, left) == l.is_and ? eval(*l.right) : left;
}

value expression_evaluator::eval_form(const expression& e, const compare_chain& chain) {
  value left = eval(*chain.first);
  for (const auto& [op, operand] : chain.rest) {
    const value right = eval(*operand);
    rt_.offset = e.offset;
    if (!compare(op, left, right)) return false;
    left = right;
  }
  return true;
}

bool expression_evaluator::compare(comparison op, const value& a, const value& b) {
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

value expression_evaluator::eval_form(const expression&, const concatenation& c) {
  std::string joined;
  for (const expression_ptr& part : c.parts) {
    append_text(rt_, joined, eval(*part));
    if (joined.size() > rt_.limits().arena_bytes) rt_.fail_limit("takes too much memory");
  }
  return rt_.make_text(std::move(joined));
}

value expression_evaluator::eval_form(const expression&, const conditional& c) {
  if (truth(rt_, eval(*c.condition))) return eval(*c.then);
  if (c.otherwise) return eval(*c.otherwise);
  return undefined{"the value of an inline if without else"};
}

value expression_evaluator::eval_form(const expression& e, const attribute& a) {
  const value object = eval(*a.object);
  rt_.offset = e.offset;
  return get_attribute(rt_, object, a.name);
}

value expression_evaluator::eval_form(const expression& e, const subscript& s) {
  const value object = eval(*s.object);
  const value index = eval(*s.index);
  rt_.offset = e.offset;
  return get_item(rt_, object, index);
}

value expression_evaluator::eval_form(const expression& e, const slice& s) {
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

value expression_evaluator::eval_form(const expression& e, const call& c) {
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

value expression_evaluator::eval_form(const expression& e, const filter_use& use) {
  const value input = eval(*use.input);
  const arguments args = eval_arguments(use.args);
  rt_.offset = e.offset;
  if (!use.function) rt_.fail(fmt::format("there is no filter '{}'", use.name), errc::unsupported);
  return use.function(rt_, input, args);
}

value expression_evaluator::eval_form(const expression& e, const test_use& use) {
  const value input = eval(*use.input);
  const arguments args = eval_arguments(use.args);
  rt_.offset = e.offset;
  if (!use.function) rt_.fail(fmt::format("there is no test '{}'", use.name), errc::unsupported);
  return use.function(rt_, input, args);
}

}  // namespace quire::jinja
