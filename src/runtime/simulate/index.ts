/** The scheduler over a cost model: policies compared on traces of any size, without a model. */
export { CostModel, fitProfile, type Profile, parseProfile, type StepSample } from "./cost-model.js";
export { calibrate, type RecordedEngine, recordedEngine, recordProfile } from "./record.js";
export { replay } from "./replay.js";
export type { RunReport, Spread } from "./report.js";
export { type SimulationReport, simulate } from "./simulator.js";
export { BLOCK_TOKENS, formatTrace, makeTrace, parseTrace, type TraceOptions, type TraceRequest } from "./trace.js";
