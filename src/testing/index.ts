/** Test doubles for programs and servers that use this package: seeded tiny models, no downloads. */

export { type FakeAnswer, FakeBackend, type FakeOptions, type FakeScript, promptOf } from "../lang/backends/fake.js";
export { type SoakOptions, type SoakReport, soak } from "./soak.js";
export { type TinyModel, type TinyModelOptions, writeTinyModel } from "./tiny-model.js";
