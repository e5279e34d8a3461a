// The store from outside: reads operations as JSON lines and answers one JSON line each, so that a
// trace can be replayed, inspected and shared. The command `quire kv replay` is this and no more.
//
// First line: {"pages":100,"page_tokens":16,"layers":1,"kv_heads":8,"head_dim":64,"type":"q8"};
// also "k_type" and "v_type". Only "pages" is required. The lines that follow name an operation in
// "op":
//
//   allocate {as, tokens}       fork {seq, as}            free {seq}
//   extend {seq, tokens}        append {seq, tokens}      update {seq, tokens}
//   truncate {seq, tokens}      read {seq, pos}           write {seq, pos}
//   slot {seq, pos}             tokens {seq}              capacity {seq}
//   table {seq}                 contiguity {seq}          compact {seq}
//   defragment {max_moves?}     should_defragment {threshold?}
//   put {seq, pos, head?, layer?, what: "k"|"v", values}  get {the same but values}
//   stats {}  fragmentation {}  memory {}  trim {}        check {}
//
// Answers: {"ok":true,...} or {"ok":false,"error":"out_of_pages","needed":2,"available":1}.
#pragma once

#include <istream>
#include <ostream>

#include "core/error.hpp"

namespace quire {

/// Replays `in` into `out`, flushing whenever no more input waits. Blank lines are skipped. Errors:
/// invalid_argument naming the line, when one is malformed (no JSON object, a missing or wrong
/// field, an unknown operation) or the first describes no store; all earlier lines are answered by
/// then.
result<void> replay(std::istream& in, std::ostream& out);

}  // namespace quire
