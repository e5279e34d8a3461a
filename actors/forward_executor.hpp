// The real step executor: a decoder over the page pool, and sampling.
#pragma once

#include <filesystem>
#include <memory>

#include "actors/step.hpp"
#include "compute/context.hpp"
#include "memory/page_pool.hpp"
#include "models/architecture.hpp"
#include "models/weights.hpp"

namespace quire {

/// What a forward executor computes with; it owns all of it.
struct loaded_model {
  std::unique_ptr<arena> threads;
  compute_context context;  ///< its arena is `threads`
  model_config config;
  model_weights weights;
};

/// Makes the executor that runs `model` over `pool`. The pool's layout must be the model's. Pages
/// that are parked on disk go to a file in `park_directory` (empty: the system's choice).
std::unique_ptr<step_executor> make_forward_executor(std::unique_ptr<loaded_model> model,
                                                     page_pool pool,
                                                     std::filesystem::path park_directory = {});

}  // namespace quire
