"""What is done to a store now and then: each module is a verb."""
