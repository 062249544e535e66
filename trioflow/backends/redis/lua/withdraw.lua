-- include: base
-- Forget questions and their answers. ARGV: nonce, again, source, ids of questions.

for _, id in ipairs(cmsgpack.unpack(ARGV[4])) do
  redis.call('ZREM', P .. 'questions', id)
  redis.call('DEL', P .. 'q:' .. id)
end
return 1
