/** ReAct with a real tool: the model writes SQL, SQLite answers, until the model knows. Needs Node 22.5 and tool calls. */
import { z } from "zod";
import { type Backend, gen, program, tool } from "../src/lang/index.js";

type Query = (sql: string) => unknown[];
interface Sqlite {
  DatabaseSync: new (path: string) => { exec(sql: string): void; prepare(sql: string): { all(): unknown[] } };
}

function cities(): Query {
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite") as unknown as Sqlite;
  const database = new DatabaseSync(":memory:");
  database.exec("create table city (name text, country text, population integer)");
  database.exec(
    "insert into city values ('Porto', 'Portugal', 231800), ('Lisbon', 'Portugal', 545796), ('Vigo', 'Spain', 293642)",
  );
  return (sql) => database.prepare(sql).all();
}

const ask = program(async (s, question: string, query: Query) => {
  const sql = tool({
    description: "Runs one SQL query on the table city(name, country, population).",
    parameters: z.object({ query: z.string() }),
    execute: (args) => query(args.query),
  });
  s.system("Answer from the database. Think, query, look, and answer when you know.");
  s.user(question);
  return s.assistant(gen({ tools: { sql }, maxTokens: 256, maxSteps: 5 }));
});

export async function main(backend: Backend, query: Query = cities()) {
  const { value, messages } = await ask.run("Which city of Portugal is the largest?", query, { backend });
  return { answer: value, rounds: messages.filter(({ role }) => role === "tool").length };
}
