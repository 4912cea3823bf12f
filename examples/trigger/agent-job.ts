// A Trigger.dev (v4) task that hands a goal to the agent service and returns its result.
//
// Put this file into your project's `trigger/` folder, set AGENT_CORE_URL in the environment of your tasks (such as
// https://agents.internal.example; the default is a service on the same machine), and trigger it. Each job is one run,
// however often it is attempted:
//
//   import { tasks } from "@trigger.dev/sdk";
//   import type { agentJob } from "./trigger/agent-job";
//   await tasks.trigger<typeof agentJob>("agent-job", { goal: "Calculate 12*9" });

import { AbortTaskRunError, task, wait } from "@trigger.dev/sdk";

const AGENT_CORE_URL = process.env.AGENT_CORE_URL ?? "http://127.0.0.1:8000";

export interface AgentJobPayload {
  goal: string;
  context?: string | null;
  tools?: string[] | null;
  model?: string | null;
  max_tokens?: number | null;
  max_cost_usd?: number | null;
  output_schema?: Record<string, unknown> | null;
}

export interface AgentStep {
  step: number;
  tool: string;
  input: Record<string, unknown>;
  output: Record<string, unknown> | null;
  error: string | null;
  timestamp: string;
}

export interface AgentRun {
  run_id: string;
  status: "success" | "error";
  output: string;
  trace: AgentStep[];
}

// What a 202 says of a run that is kept and has not ended.
export interface KeptRun {
  run_id: string;
  status: "queued" | "running" | "waiting" | "success" | "error" | "cancelled";
}

// RFC 9457: what every refused request gets, as application/problem+json. `code` is stable.
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  errors?: { field: string; message: string }[];
}

export const agentJob = task({
  id: "agent-job",
  maxDuration: 660, // seconds; the service answers within ten minutes, with the result or with a 202
  // Every attempt sends the same key, and so finds the run of the first one instead of starting another.
  retry: { maxAttempts: 3 },
  run: async (payload: AgentJobPayload, { ctx, signal }): Promise<AgentRun> => {
    const post = () =>
      // put together as text, so that a path in AGENT_CORE_URL (a proxy's prefix) stays
      fetch(`${AGENT_CORE_URL.replace(/\/+$/, "")}/api/v1/run-task`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": `"trigger-${ctx.run.id}"` },
        body: JSON.stringify(payload),
        signal,
      });
    let response = await post();
    while (response.status === 202) {
      const kept = (await response.json()) as KeptRun;
      if (kept.status === "waiting") {
        // A call ended without telling whether it had its effect. Somebody has to look, and to say so.
        throw new AbortTaskRunError(`run ${kept.run_id} waits: POST /api/v1/runs/${kept.run_id}/steps/{step}/resolve`);
      }
      await wait.for({ seconds: 5 });
      response = await post();
    }
    if (!response.ok) {
      const reason = await refusal(response);
      // Most 4xx say that the request itself is wrong, and would be refused again whatever the retry policy says; not so
      // 408 and 429, which come from a proxy that is busy.
      const final = response.status < 500 && response.status !== 408 && response.status !== 429;
      throw final ? new AbortTaskRunError(reason) : new Error(reason);
    }
    const run = (await response.json()) as AgentRun;
    if (run.status === "error") {
      // The agent ran and could not reach the goal; `output` says why in a sentence a person understands.
      throw new AbortTaskRunError(`${run.output} (run ${run.run_id}, ${run.trace.length} steps)`);
    }
    return run;
  },
});

async function refusal(response: Response): Promise<string> {
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("application/problem+json")) {
    return `HTTP ${response.status} from ${response.url}`; // a proxy between here and the service
  }
  const problem = (await response.json()) as Problem;
  return `${problem.code}: ${problem.detail}`;
}
