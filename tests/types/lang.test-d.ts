/** What inference must and must not accept in the language. Checked by the compiler; nothing here runs. */
import { expectTypeOf } from "vitest";
import { z } from "zod";
import {
  type Backend,
  type BatchItem,
  type Expression,
  type ForkGroup,
  gen,
  genInt,
  image,
  type JsonSchemaValue,
  type Program,
  program,
  type State,
  select,
  tool,
  type Variable,
} from "../../src/lang/index.js";

declare const backend: Backend;
declare const s: State;

// A constraint is a type.
expectTypeOf(gen()).toEqualTypeOf<Expression<string>>();
expectTypeOf(gen("name", { maxTokens: 8, stop: "\n" })).toEqualTypeOf<Expression<string>>();
expectTypeOf(gen({ type: "int" })).toEqualTypeOf<Expression<number>>();
expectTypeOf(gen({ type: "float" })).toEqualTypeOf<Expression<number>>();
expectTypeOf(gen({ type: "bool" })).toEqualTypeOf<Expression<boolean>>();
expectTypeOf(gen({ type: "string" })).toEqualTypeOf<Expression<string>>();
expectTypeOf(gen({ regex: /[0-9]+/ })).toEqualTypeOf<Expression<string>>();
expectTypeOf(gen({ grammar: 'root ::= "a"' })).toEqualTypeOf<Expression<string>>();
expectTypeOf(gen({ choices: ["a", "b"] })).toEqualTypeOf<Expression<"a" | "b">>();
expectTypeOf(gen({ n: 3 })).toEqualTypeOf<Expression<string[]>>();
expectTypeOf(gen({ n: 3, type: "int" })).toEqualTypeOf<Expression<number[]>>();
expectTypeOf(genInt("age")).toEqualTypeOf<Expression<number>>();
expectTypeOf(select(["yes", "no"])).toEqualTypeOf<Expression<"yes" | "no">>();
expectTypeOf(select("name", ["yes", "no"])).toEqualTypeOf<Expression<"yes" | "no">>();
expectTypeOf(select(["yes"] as string[])).toEqualTypeOf<Expression<string>>();

const person = z.object({ name: z.string(), age: z.int(), tags: z.array(z.string()).optional() });
expectTypeOf(gen({ schema: person })).toEqualTypeOf<
  Expression<{ name: string; age: number; tags?: string[] | undefined }>
>();
expectTypeOf(gen({ schema: z.string().transform((text) => text.length) })).toEqualTypeOf<Expression<number>>();
expectTypeOf(
  gen({ schema: { type: "object", properties: { a: { type: "integer" }, b: { enum: ["x", "y"] } }, required: ["a"] } }),
).toEqualTypeOf<Expression<{ a: number; b?: "x" | "y" }>>();
expectTypeOf<JsonSchemaValue<{ type: "array"; items: { type: "boolean" } }>>().toEqualTypeOf<boolean[]>();
expectTypeOf<JsonSchemaValue<{ anyOf: [{ type: "null" }, { const: 3 }] }>>().toEqualTypeOf<null | 3>();

// @ts-expect-error an unknown option
gen({ maxToken: 8 });
// @ts-expect-error an unknown type
gen({ type: "number" });
// @ts-expect-error choices are texts
select([1, 2]);

// Appending gives the variables of the expressions.
expectTypeOf(s.user("hello")).toEqualTypeOf<undefined>();
expectTypeOf(s.user(image("a.png"), "what?")).toEqualTypeOf<undefined>();
expectTypeOf(s.assistant(gen({ type: "int" }))).toEqualTypeOf<Variable<number>>();
expectTypeOf(s.assistant`It is ${gen({ type: "bool" })}, of course`).toEqualTypeOf<Variable<boolean>>();
const [first, second] = s.assistant`${gen()} and ${"text"} and ${gen({ type: "int" })}`;
expectTypeOf(first).toEqualTypeOf<Variable<string>>();
expectTypeOf(second).toEqualTypeOf<Variable<number>>();
expectTypeOf<Awaited<ReturnType<() => typeof second>>>().toEqualTypeOf<number>();
expectTypeOf(s.get("x")).toEqualTypeOf<Variable<string>>();
expectTypeOf(s.get<number>("x")).toEqualTypeOf<Variable<number>>();
expectTypeOf(s.scope("x", () => s.text("a"))).toEqualTypeOf<Variable<string>>();

// A variable of one type is not one of another.
declare const age: Variable<number>;
// @ts-expect-error a number is no text
const wrong: Variable<string> = age;
void wrong;
// @ts-expect-error null is nothing that a prompt takes
s.user(null);

// Forks give what their functions return, with variables resolved.
const forks = s.fork(["a", "b"], (f, item, index) => {
  expectTypeOf(item).toEqualTypeOf<string>();
  expectTypeOf(index).toEqualTypeOf<number>();
  return f.assistant(gen({ type: "int" }));
});
expectTypeOf(forks).toEqualTypeOf<ForkGroup<number>>();
expectTypeOf<Awaited<typeof forks>>().toEqualTypeOf<number[]>();
expectTypeOf(s.fork(2, async (f, index) => ({ index, text: f.append(gen()) }))).toEqualTypeOf<
  ForkGroup<{ index: number; text: string }>
>();

// Programs: arguments and result.
const ask = program(async (s, topic: string, count: number) => {
  expectTypeOf(s).toEqualTypeOf<State>();
  s.user`${count} facts about ${topic}`;
  return { facts: s.assistant(gen()), sure: s.assistant(select(["yes", "no"])), count };
});
expectTypeOf(ask).toEqualTypeOf<
  Program<[topic: string, count: number], { facts: string; sure: "yes" | "no"; count: number }>
>();
async function runs() {
  const { value } = await ask.run("cats", 3, { backend });
  expectTypeOf(value).toEqualTypeOf<{ facts: string; sure: "yes" | "no"; count: number }>();
  // @ts-expect-error an argument is missing
  await ask.run("cats", { backend });
  // @ts-expect-error an unknown option
  await ask.run("cats", 3, { backend, temprature: 0 });
  const bound = ask.bind("cats");
  expectTypeOf((await bound.run(3)).value.sure).toEqualTypeOf<"yes" | "no">();
  // @ts-expect-error the first argument is a text
  ask.bind(3);
  const items = await ask.batch([{ topic: "cats" }], { backend, args: ({ topic }, index) => [topic, index] });
  expectTypeOf(items).toEqualTypeOf<BatchItem<{ facts: string; sure: "yes" | "no"; count: number }>[]>();
  const upper = program((s, word: string) => s.text`${word}${gen()}`);
  for await (const item of upper.batch(["a", "b"])) expectTypeOf(item).toEqualTypeOf<BatchItem<string>>();
  // @ts-expect-error items are texts
  upper.batch([1, 2]);
  expectTypeOf(await s.run(upper, "a")).toEqualTypeOf<string>();
  expectTypeOf(await upper(s, "a")).toEqualTypeOf<string>();
}
void runs;

const optional = program((s, word: string, count?: number) => s.text`${word}${count ?? 1}${gen()}`);
// @ts-expect-error optional arguments and options could not be told apart
optional.run("a");

// A plain returned value keeps its type.
expectTypeOf(program(() => new Date())).toEqualTypeOf<Program<[], Date>>();
expectTypeOf(program(async (s) => s.append(gen({ schema: person })))).toEqualTypeOf<
  Program<[], { name: string; age: number; tags?: string[] | undefined }>
>();

// Tools: arguments from the schema.
tool({
  parameters: z.object({ city: z.string() }),
  execute: (args, call) => {
    expectTypeOf(args).toEqualTypeOf<{ city: string }>();
    expectTypeOf(call.id).toEqualTypeOf<string>();
    return args.city;
  },
});
