// The page at "/": HTML, style and script, embedded at build time and sent as one document.
#pragma once

#include "server/http_message.hpp"

namespace quire {

/// Returns the page. Its content-security policy lets it talk to this server and run its own
/// script, nothing else.
http_reply page_reply();

}  // namespace quire
