"""What the end-to-end tests share: the stack they run against, the people who use it, the machine it runs on."""
