/** POST, PUT /generate: SGLang's native generation route. */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { ServerContext } from "./context.js";
import { replyError } from "./error-reply.js";
import { NativeAnswer } from "./generate-reply.js";
import { generateSchema, type NativePlan, toNativePlan } from "./generate-request.js";
import { describeRoute } from "./openapi.js";
import { runRequests, streamReply } from "./run-requests.js";

export function registerGenerate(app: FastifyInstance, context: ServerContext): void {
  app.route({
    method: ["POST", "PUT"],
    url: "/generate",
    schema: describeRoute("native", "Generate text", generateSchema),
    handler: async (request, reply) => {
      const plan = toNativePlan(request.body, context);
      const answers = plan.requests.flatMap(({ logprobs }) =>
        Array.from(
          { length: plan.n },
          () =>
            new NativeAnswer({
              weightVersion: context.weightVersion,
              textInLogprobs: plan.textInLogprobs,
              returnPromptTokenIds: plan.returnPromptTokenIds,
              top: (logprobs?.topNum ?? 0) > 0,
              tokenIds: (logprobs?.tokenIds?.length ?? 0) > 0,
              incremental: plan.stream && context.config.incrementalStreamingOutput,
            }),
        ),
      );
      if (plan.stream) return streamAnswers(context, reply, plan, answers);
      await runRequests(context, {
        ...plan,
        reply,
        onChunk: (i, chunk) => {
          answers[i * plan.n + chunk.index].add(chunk);
          return undefined;
        },
      });
      for (const answer of answers) {
        const error = replyError(answer.last?.finishReason ?? null);
        if (error) throw error;
      }
      const bodies = answers.map((answer) => answer.body());
      return plan.batch ? bodies : bodies[0];
    },
  });
}

/** Every chunk is one event; in a batch it carries the `index` of its answer. */
async function streamAnswers(
  context: ServerContext,
  reply: FastifyReply,
  plan: NativePlan,
  answers: readonly NativeAnswer[],
): Promise<void> {
  await streamReply(context, reply, (stream) =>
    runRequests(context, {
      ...plan,
      reply,
      onChunk: (i, chunk) => {
        const index = i * plan.n + chunk.index;
        const answer = answers[index];
        answer.add(chunk);
        return stream.send(plan.batch ? { ...answer.body(), index } : answer.body());
      },
    }),
  );
}
