"""The predict path behind Kafka: reads requests from one topic and answers on another."""
