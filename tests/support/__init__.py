"""Small, shipped helpers of the tests; never fakes of our own code."""
