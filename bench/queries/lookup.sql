\set id random(1, 1000000)
SELECT name, email FROM bench.customer WHERE customer_id = :id;
