-- include: base
-- Keep answers for those who have asked. ARGV: nonce, again, source, answers.

for _, given in ipairs(cmsgpack.unpack(ARGV[4])) do
  local key = P .. 'q:' .. given.request
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'answer', '=' .. given.data)
  end
end
publish(ARGV[3])
return 1
