"""Published versions: publication, verification, history, rollback, a second judgement, retention."""
