// StepInputs from JavaScript, StepOutputs to JavaScript: the fields of src/native/addon.ts, in its order.
#include "napi_args.h"

namespace sgl {
namespace {

template <class T>
bool field(napi_env env, napi_value object, const char* key, std::vector<T>* out) {
  napi_value value;
  return read_property(env, object, key, &value) && copy_array(env, value, std::string("inputs.") + key, out);
}

bool flag(napi_env env, napi_value object, const char* key, bool* out) {
  napi_value value;
  return read_property(env, object, key, &value) && read_bool(env, value, std::string("inputs.") + key, out);
}

bool ticket(napi_env env, napi_value object, double* out) {
  napi_value value;
  return read_property(env, object, "maskTicket", &value) && read_number(env, value, "inputs.maskTicket", 0, 9007199254740991.0, true, out);
}

}  // namespace

bool read_step_inputs(napi_env env, napi_value object, StepInputs* in) {
  if (!is_object(env, object)) return expected(env, "inputs", "an object", object);
  return field(env, object, "tokens", &in->tokens) && field(env, object, "positions", &in->positions) &&
         field(env, object, "seqStart", &in->seq_start) && field(env, object, "kvLength", &in->kv_length) &&
         field(env, object, "pageStart", &in->page_start) && field(env, object, "pageTable", &in->page_table) &&
         field(env, object, "rowToken", &in->row_token) && field(env, object, "rowTarget", &in->row_target) &&
         field(env, object, "rowSlot", &in->row_slot) && field(env, object, "temperature", &in->temperature) &&
         field(env, object, "topP", &in->top_p) && field(env, object, "topK", &in->top_k) && field(env, object, "minP", &in->min_p) &&
         field(env, object, "seed", &in->seed) && field(env, object, "draw", &in->draw) && field(env, object, "penalties", &in->penalties) &&
         field(env, object, "seenStart", &in->seen_start) && field(env, object, "seenIds", &in->seen_ids) &&
         field(env, object, "seenCounts", &in->seen_counts) && field(env, object, "biasStart", &in->bias_start) &&
         field(env, object, "biasIds", &in->bias_ids) && field(env, object, "biasValues", &in->bias_values) &&
         field(env, object, "maskIndex", &in->mask_index) && ticket(env, object, &in->mask_ticket) &&
         field(env, object, "topLogprobs", &in->top_logprobs) && field(env, object, "wantedStart", &in->wanted_start) &&
         field(env, object, "wantedIds", &in->wanted_ids) && flag(env, object, "returnLogits", &in->return_logits) &&
         flag(env, object, "returnHidden", &in->return_hidden);
}

napi_value make_step_outputs(napi_env env, const Step& step) {
  const StepOutputs& out = step.out;
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  const auto array = [&](const char* key, const auto& values) { set(env, object, key, make_array(env, values.data(), values.size())); };
  array("ids", out.ids);
  array("logprobs", out.logprobs);
  array("topIds", out.top_ids);
  array("topLogprobs", out.top_logprobs);
  array("wantedLogprobs", out.wanted_logprobs);
  if (step.in.return_logits) array("logits", out.logits);
  else set(env, object, "logits", make_null(env));
  if (step.in.return_hidden) array("hidden", out.hidden);
  else set(env, object, "hidden", make_null(env));
  set(env, object, "startNs", make_number(env, static_cast<double>(out.start_ns)));
  set(env, object, "endNs", make_number(env, static_cast<double>(out.end_ns)));
  set(env, object, "maskWaitNs", make_number(env, static_cast<double>(out.mask_wait_ns)));
  set(env, object, "sampleNs", make_number(env, static_cast<double>(out.sample_ns)));
  return object;
}

}  // namespace sgl
