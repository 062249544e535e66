-- include: base fenced
-- Keep a question for a worker. ARGV: nonce, again, source, question. Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local new = cmsgpack.unpack(ARGV[4])
redis.call('ZREMRANGEBYSCORE', P .. 'questions', '-inf', '(' .. now_exact)
local row = redis.call('HMGET', P .. 'i:' .. new.instance, 'status', 'life')
if not row[1] or (row[2] or '') ~= new.life then
  return 'not found'
end
local key = P .. 'q:' .. new.id
redis.call('HSET', key, 'instance', new.instance, 'life', new.life, 'question', new.question)
redis.call('PEXPIREAT', key, math.floor(new.expires_at * 1000) + 1000)
redis.call('ZADD', P .. 'questions', new.expires_at, new.id)
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
