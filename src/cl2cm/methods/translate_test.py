"""What engineers do today: the ``zero-shot`` model, asked in English by machine translation."""

from cl2cm.methods.zero_shot import ZeroShot


class TranslateTest(ZeroShot):
    """Trained as ``zero-shot``; evaluation translates the queries into the source language first.

    See ``evaluate`` and its ``translate``.
    """

    name = "translate-test"
    translates_queries = True
