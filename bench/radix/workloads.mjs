// The workloads of the SGLang paper (arXiv 2312.07104, section 6) as programs in the frontend language, over texts made
// by a seeded generator. Lengths are scaled to a small CPU; shapes (who shares what with whom) are the paper's.
// `parallel: false` runs the branches of a fork one after the other.
import { gen, program, select } from "../../dist/index.js";

const WORDS =
  "time year people way day man thing woman life child world school state family student group country problem hand part place case week company system program question work government number night point home water room mother area money story fact month lot right study book eye job word business issue side kind head house service friend father power hour game line end member law car city community name president team minute idea kid body information back parent face others level office door health person art war history party result change morning reason research girl guy moment air teacher force education".split(
    " ",
  );

/** Texts of about one token per word, the same for the same seed. */
export class Writer {
  #state;
  constructor(seed) {
    this.#state = seed >>> 0;
  }
  int(limit) {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }
  words(count) {
    return Array.from({ length: count }, () => WORDS[this.int(WORDS.length)]).join(" ");
  }
  list(count, make) {
    return Array.from({ length: count }, (_, i) => make(i));
  }
}

const fork = (s, items, work, { parallel }) => s.fork(items, work, { concurrency: parallel ? items.length : 1 });

/** What the `json` workload's answers look like; at most about 40 tokens. */
const FIELDS = /\{"name": "[a-z]{1,8}", "city": "[a-z]{1,8}", "year": [12][0-9]{3}\}/;

/** name -> { items(writer), program, what }: the program's arguments are (item, { parallel }). */
export const WORKLOADS = {
  mmlu: {
    what: "5-shot multiple choice, one token decoded",
    items(w) {
      const question = () => `Question: ${w.words(40)}?\nA. ${w.words(6)}\nB. ${w.words(6)}\nC. ${w.words(6)}\nAnswer:`;
      const shots = w.list(5, (i) => `${question()} ${"ABC"[i % 3]}\n\n`).join("");
      return w.list(40, () => ({ shots, question: `Question: ${w.words(18)}?\nAnswer:` }));
    },
    program: program(async (s, { shots, question }, _options) => {
      s.text(shots + question);
      return s.append(gen({ maxTokens: 1 }));
    }),
  },
  select: {
    what: "20-shot, the likeliest of 4 endings",
    items(w) {
      const shots = w.list(20, () => `${w.words(14)}: ${w.words(6)}.\n`).join("");
      return w.list(16, () => ({ text: `${shots}${w.words(16)}:`, endings: w.list(4, () => ` ${w.words(6)}.`) }));
    },
    program: program(async (s, { text, endings }, _options) => {
      s.text(text);
      return s.append(select(endings));
    }),
  },
  react: {
    what: "an agent's trace replayed: thought, action, observation, three times",
    items(w) {
      const template = `Answer with thoughts and actions. ${w.words(150)}\n`;
      return w.list(12, () => ({ task: `${template}Question: ${w.words(12)}?\n`, seen: w.list(3, () => w.words(30)) }));
    },
    program: program(async (s, { task, seen }, _options) => {
      s.text(task);
      for (const observation of seen) {
        s.text("Thought:");
        await s.append(gen({ maxTokens: 8 }));
        s.text(`\nObservation: ${observation}\n`);
      }
      return s.append(gen({ maxTokens: 4 }));
    }),
  },
  agents: {
    what: "generative agents replayed: calls over a character's description and memories",
    items(w) {
      const characters = w.list(4, (i) => `Character ${i}. ${w.words(110)}\n`);
      return w.list(32, (i) => `${characters[i % 4]}Memory: ${w.words(20)}\nWhat happens next?`);
    },
    program: program(async (s, text, _options) => {
      s.text(text);
      return s.append(gen({ maxTokens: 6 }));
    }),
  },
  tree: {
    what: "tree of thought: 3 plans, 3 ways to carry each out, a grade for each",
    items(w) {
      const examples = `Solve step by step.\n${w.words(220)}\n`;
      return w.list(4, () => `${examples}Problem: ${w.words(30)}?\n`);
    },
    program: program(async (s, problem, options) => {
      s.text(problem);
      return fork(
        s,
        [0, 1, 2],
        async (plan, i) => {
          plan.text(`Plan ${i + 1}:`);
          await plan.append(gen({ maxTokens: 6 }));
          return fork(
            plan,
            [0, 1, 2],
            async (way, j) => {
              way.text(`\nWay ${j + 1}:`);
              await way.append(gen({ maxTokens: 6 }));
              way.text("\nGrade:");
              return way.append(gen({ maxTokens: 1 }));
            },
            options,
          );
        },
        options,
      );
    }),
  },
  skeleton: {
    what: "skeleton of thought: an outline, then its 4 points side by side",
    items: (w) => {
      const task = `Write an outline, then each point. ${w.words(120)}\n`;
      return w.list(8, () => `${task}Topic: ${w.words(10)}\nOutline:`);
    },
    program: program(async (s, topic, options) => {
      s.text(topic);
      await s.append(gen({ maxTokens: 12 }));
      return fork(
        s,
        [1, 2, 3, 4],
        (point, i) => {
          point.text(`\nPoint ${i}:`);
          return point.append(gen({ maxTokens: 10 }));
        },
        options,
      );
    }),
  },
  judge: {
    what: "branch, solve, merge: an essay judged on 3 dimensions, then a summary",
    items: (w) => {
      const task = `Judge the essay. ${w.words(60)}\n`;
      return w.list(8, () => `${task}Essay: ${w.words(150)}\n`);
    },
    program: program(async (s, essay, options) => {
      s.text(essay);
      const views = await fork(
        s,
        ["clarity", "depth", "style"],
        (view, dimension) => {
          view.text(`Judgement of ${dimension}:`);
          return view.append(gen({ maxTokens: 8 }));
        },
        options,
      );
      s.text(`${views.join("\n")}\nSummary:`);
      return s.append(gen({ maxTokens: 12 }));
    }),
  },
  json: {
    what: "an object of three fields extracted from documents under one long instruction, its form forced by a grammar",
    items(w) {
      const instruction = `Extract the fields as JSON. ${w.words(200)}\n`;
      return w.list(16, () => `${instruction}Document: ${w.words(25)}\nJSON: `);
    },
    program: program(async (s, text, _options) => {
      s.text(text);
      return s.append(gen({ regex: FIELDS, maxTokens: 64 }));
    }),
  },
  "chat-short": {
    what: "4 turns, long questions, short answers",
    items: (w) => w.list(12, () => w.list(4, () => w.words(80))),
    program: program(async (s, turns, _options) => {
      for (const turn of turns) {
        s.text(`User: ${turn}\nAssistant:`);
        await s.append(gen({ maxTokens: 4 }));
        s.text("\n");
      }
    }),
  },
  "chat-long": {
    what: "4 turns, long answers",
    items: (w) => w.list(8, () => w.list(4, () => w.words(40))),
    program: program(async (s, turns, _options) => {
      for (const turn of turns) {
        s.text(`User: ${turn}\nAssistant:`);
        await s.append(gen({ maxTokens: 32 }));
        s.text("\n");
      }
    }),
  },
  rag: {
    what: "questions over retrieved passages, 5 of them popular",
    items(w) {
      const task = `Answer from the passage. ${w.words(80)}\n`;
      const passages = w.list(5, (i) => `Passage ${i}: ${w.words(110)}\n`);
      return w.list(32, () => `${task}${passages[w.int(5)]}Question: ${w.words(12)}?\nAnswer:`);
    },
    program: program(async (s, text, _options) => {
      s.text(text);
      return s.append(gen({ maxTokens: 6 }));
    }),
  },
};
