"""Answers moderations with this environment's guards: what they find in a text, by OpenAI's categories.

No model is asked. The offline rules judge here whatever the settings have them do with prompts; denied topics
and Amazon Bedrock are asked where the settings name them. A category that nothing looks for says so by an
empty list of input types.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from contracts.moderation import GUARDS, Moderation, ModerationRequest, ModerationResult
from contracts.texts import TextsUsage
from lambdas.aws import model_errors
from lambdas.pipeline.guards.base import Action, Finding, Guards
from lambdas.pipeline.guards.session import GuardSession
from lambdas.pipeline.guards.toxicity import ToxicityRules, Verdict
from lambdas.pipeline.model_calls import time_left_ms
from lambdas.pipeline.request import Admission, Response
from lambdas.pipeline.text_operations import result_of
from lambdas.pipeline.unary import unary_body

PERSONAL_DATA = "pii"
INJECTION = "prompt_injection"
PROFANITY = "profanity"
_OF_TOXICITY = {
    "insult": ("harassment",),
    "threat": ("harassment", "harassment/threatening", "violence"),
    "hate": ("hate",),
    "self_harm": ("self-harm",),
    "sexual": ("sexual",),
    "profanity": (PROFANITY,),
}
_OF_BEDROCK = {
    "violence": "violence",
    "hate": "hate",
    "sexual": "sexual",
    "misconduct": "illicit",
    "insults": "harassment",
    "jailbreak": INJECTION,
    "prompt_injection": INJECTION,
    "prompt_leakage": INJECTION,
    "prompt_attack": INJECTION,
}


def topic(name: str) -> str:
    """The category of a denied topic."""
    return f"denied_topic/{name}"


class Moderate:
    """Admission → the body of the reply. `topics`: the denied ones.

    `guards` (all but toxicity) and `toxicity` are made with the first request: chats have no use for them,
    and compiling them takes a tenth of a cold start.
    """

    def __init__(
        self, guards: Callable[[], Guards], toxicity: Callable[[], ToxicityRules], topics: Sequence[str]
    ) -> None:
        self._guards = functools.cache(guards)
        self._toxicity = functools.cache(toxicity)
        own = {category for categories in _OF_TOXICITY.values() for category in categories}
        self._looked_for = sorted({*own, PERSONAL_DATA, INJECTION, *map(topic, topics)})

    def __call__(self, admission: Admission, guards: GuardSession, response: Response) -> bytes:
        """Raises ApiError 503 where a guard fails, 504 where time is up before all texts are judged."""
        asked = admission.body
        if not isinstance(asked, ModerationRequest):
            raise TypeError("only a request for moderation is moderated")
        results = []
        for text in asked.texts:
            left = time_left_ms(admission)
            if left is not None and left <= 0:
                raise model_errors.timed_out()
            results.append(self._judged(text, guards))
        usage = TextsUsage(prompt_tokens=0, total_tokens=0)
        response.prompt_tokens = 0  # so that the request is booked, with nothing used
        return unary_body(admission, response, Moderation(id="", model=GUARDS, results=results, usage=usage))

    def _judged(self, text: str, guards: GuardSession) -> ModerationResult:
        scores = dict.fromkeys(self._looked_for, 0.0)
        toxic = self._toxic(text, guards)
        for label, score in toxic.by_label.items():
            for category in _OF_TOXICITY[label]:
                scores[category] = max(scores[category], score)
        flagged: dict[str, float] = {}
        for finding in guards.note(toxic.findings):
            flagged |= dict.fromkeys(_OF_TOXICITY[finding.label], toxic.score)
        for finding in guards.note(self._guards().check(text, guards.report.times)):
            flagged[_category(finding)] = 1.0
        for category, score in flagged.items():
            scores[category] = max(scores.get(category, 0.0), score)
        flags = {category: category in flagged for category in scores}
        return result_of(flags, {category: round(score, 4) for category, score in scores.items()})

    def _toxic(self, text: str, guards: GuardSession) -> Verdict:
        started = time.perf_counter()
        verdict = self._toxicity().judged(text)
        guards.report.times.add(self._toxicity().name, (time.perf_counter() - started) * 1000)
        return verdict


def _category(finding: Finding) -> str:
    if finding.action is Action.MASK:
        return PERSONAL_DATA
    if finding.guard == "injection":
        return INJECTION
    if finding.guard == "denied_topic":
        return topic(finding.label)
    return _OF_BEDROCK.get(finding.label, f"{finding.guard}/{finding.label}")
