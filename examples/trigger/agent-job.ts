// A Trigger.dev (v4) task that hands a goal to the agent service and returns its result.
//
// Put this file into your project's `trigger/` folder, set AGENT_CORE_URL in the environment of your tasks (such as
// https://agents.internal.example; the default is a service on the same machine), and trigger it:
//
//   import { tasks } from "@trigger.dev/sdk";
//   import type { agentJob } from "./trigger/agent-job";
//   await tasks.trigger<typeof agentJob>("agent-job", { goal: "Calculate 12*9" });

import { AbortTaskRunError, task } from "@trigger.dev/sdk";

const AGENT_CORE_URL = process.env.AGENT_CORE_URL ?? "http://127.0.0.1:8000";

export interface AgentJobPayload {
  goal: string;
  context?: string | null;
  tools?: string[] | null;
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
  maxDuration: 330, // seconds; a run takes at most MAX_RUN_SECONDS, 300 by default
  // One attempt: a second POST is a second run, and a goal that adds a note would add it twice. Raise this only for
  // goals that write nothing.
  retry: { maxAttempts: 1 },
  run: async (payload: AgentJobPayload, { signal }): Promise<AgentRun> => {
    // put together as text, so that a path in AGENT_CORE_URL (a proxy's prefix) stays
    const response = await fetch(`${AGENT_CORE_URL.replace(/\/+$/, "")}/api/v1/run-task`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(payload),
      signal,
    });
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
