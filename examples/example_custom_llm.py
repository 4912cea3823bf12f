"""A language model of your own: any object with `generate(prompt, system_prompt="") -> LLMResponse`.

Run it from the checkout: `uv run examples/example_custom_llm.py`
"""

import json

from app.agent.core import Agent
from app.llm.interface import LLMResponse


class MyLLM:
    """Call your provider here, with `generate` sync or async. This one follows a script and shows its prompt.

    `system_prompt` lists the tools and says how to reply: a JSON object that calls a tool, or the answer.
    `prompt` is the run so far, one JSON object a line: the goal first, then calls and their results.
    """

    async def generate(self, prompt: str, system_prompt: str = "") -> LLMResponse:
        print(f"The model is told of {system_prompt.count('Input schema:')} tools and reads:")
        lines = prompt.splitlines()
        for line in lines:
            print(f"  {line}")
        last = json.loads(lines[-1])
        if "goal" in last:
            return LLMResponse(content='{"tool": "math", "input": {"expression": "sqrt(2) * 100"}}')
        return LLMResponse(content=f"About {last['output']['result']:.1f} metres.")


def main() -> None:
    goal = "How long is the diagonal of a square field of 100 metres?"
    result = Agent(llm_client=MyLLM(), max_steps=5).run(goal)
    print(f"Answer: {result.output}  [{result.status}]")


if __name__ == "__main__":
    main()
