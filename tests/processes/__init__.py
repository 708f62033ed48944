"""The fleet as it runs: real servers, real workers, real boards, and what befalls them."""
