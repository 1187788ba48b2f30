"""The parity gate: nothing is published that did not pass it."""
