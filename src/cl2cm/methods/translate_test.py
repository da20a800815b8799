"""The ``zero-shot`` model with queries that are machine-translated into English."""

from cl2cm.methods.zero_shot import ZeroShot


class TranslateTest(ZeroShot):
    """Trained as ``zero-shot``; evaluation translates the queries into the source language first.

    See ``evaluate`` and its ``translate``.
    """

    name = "translate-test"
    translates_queries = True
